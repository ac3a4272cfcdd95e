//! Records of several CPUs overtake each other: what is decided must not depend on the order in which they come.

use super::{HOLD, NOW, Rejections, idle, late, listener, runs};
use crate::{
    model::{
        application::Application,
        facts::HostFacts,
        rejection::{Cause, Facts},
    },
    samples::{MS, S, US, request},
};
use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, proptest};

/// What happens around a race.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// The data comes for the connection that was closed.
    Late,
    /// Another connection closes, so long after [`NOW`] less 100 ms, after such an idle time.
    Close { number: u64, after: u64, idle: u64 },
    /// The listener closes, so long after [`NOW`] less 100 ms.
    Listener(u64),
    /// Another connection was idle for so long and lived on.
    Survived(u64),
}

fn apply(rejections: &mut Rejections, what: Happens) {
    let begin = NOW - 100 * MS;
    match what {
        Happens::Late => rejections.event(&late(7), HostFacts::default()),
        Happens::Close { number, after, idle: time } => rejections.closed(&idle(number, begin + after, time)),
        Happens::Listener(after) => rejections.listener_closed(&listener(begin + after)),
        Happens::Survived(idle) => rejections.survived(&request(NOW - S, [0; 7]), idle),
    }
}

/// The figures of the race, after all that `happens` in that order.
fn decided(happens: &[Happens], answer: &Application) -> Vec<Facts> {
    let mut rejections = Rejections::default();
    for &what in happens {
        apply(&mut rejections, what);
    }
    rejections.tick(NOW + HOLD);
    for question in rejections.questions() {
        rejections.answer(question.number, answer.clone());
    }
    rejections.tick(NOW + 3 * HOLD);
    rejections.decide_all();
    let races = rejections.ready().into_iter().filter(|it| it.cause == Cause::KeepaliveRace);
    races.map(|it| it.facts).collect()
}

fn happenings() -> impl Strategy<Value = (Vec<Happens>, Vec<Happens>)> {
    let idle = prop::sample::select(vec![50 * MS, 2 * S, 5 * S, 5 * S + 40 * MS, 30 * S]);
    let close =
        (100..200_u64, 0..300 * MS, idle).prop_map(|(number, after, idle)| Happens::Close { number, after, idle });
    let listener = prop::option::of((0..300 * MS).prop_map(Happens::Listener));
    let survived = prop::option::of((S..60 * S).prop_map(Happens::Survived));
    // The connection that the data was for.
    let own = Happens::Close { number: 7, after: 100 * MS - 200 * US, idle: 5 * S };
    (prop::collection::vec(close, 0..8), listener, survived).prop_flat_map(move |(mut all, listener, survived)| {
        all.push(own);
        all.push(Happens::Late);
        all.extend(listener);
        all.extend(survived);
        (Just(all.clone()), Just(all).prop_shuffle())
    })
}

proptest! {
    #[test]
    fn the_order_of_records_does_not_decide((one, other) in happenings(), is_alive in any::<bool>(), listens in any::<bool>()) {
        let answer = Application { is_alive, listens, ..runs() };
        let (one, other) = (decided(&one, &answer), decided(&other, &answer));
        prop_assert_eq!(one.len(), 1);
        prop_assert_eq!(one, other);
    }
}
