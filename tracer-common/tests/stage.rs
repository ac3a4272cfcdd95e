//! Moments become stages that are never negative and add up exactly, whatever the moments are.

use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use tracer_common::stage::{ConnectionMoments, RequestMoments, RequestSplit, RequestStage, Split};

/// A moment: not seen, or one of a few that collide and swap often, or any.
fn moment() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 3 => 1..20_u64, 1 => any::<u64>().prop_map(|any| any >> 1)]
}

fn request_moments() -> impl Strategy<Value = RequestMoments> {
    [(); 8].map(|()| moment()).prop_map(moments)
}

fn moments(of: [u64; 8]) -> RequestMoments {
    let [arrived, queued, first_read, last_read, first_write, first_out, last_out, acknowledged] = of;
    RequestMoments { arrived, queued, first_read, last_read, first_write, first_out, last_out, acknowledged }
}

fn array(of: &RequestMoments) -> [u64; 8] {
    let &RequestMoments { arrived, queued, first_read, last_read, first_write, first_out, last_out, acknowledged } = of;
    [arrived, queued, first_read, last_read, first_write, first_out, last_out, acknowledged]
}

/// Nanoseconds from the earliest to the latest of the moments that were seen.
fn span(moments: impl IntoIterator<Item = u64>) -> u64 {
    let seen: Vec<u64> = moments.into_iter().filter(|&moment| moment != 0).collect();
    seen.iter().max().zip(seen.iter().min()).map_or(0, |(last, first)| last - first)
}

/// What holds for every split. Sums are taken in `u128`, in which they cannot wrap.
fn check<const N: usize>(split: &Split<N>, span: u64) {
    let sum: u128 = split.stages.iter().flatten().map(|&time| u128::from(time)).sum();
    assert_eq!(sum, u128::from(split.total), "{split:?}");
    assert!(split.total <= span, "{split:?} in {span}");
    assert_eq!(u32::from(split.merged) >> N, 0, "{split:?}");
    let mut measured = false;
    for (index, stage) in split.stages.iter().enumerate() {
        if split.is_merged(index) {
            assert!(measured && stage.is_none(), "{split:?}");
        } else {
            measured = stage.is_some();
        }
    }
    let spans: Vec<_> = split.spans().collect();
    for &(first, last, time) in &spans {
        assert!(first < last && split.stages[first] == Some(time), "{split:?}");
        assert!((first + 1..=last).all(|stage| split.is_merged(stage)) && split.is_apart(last), "{split:?}");
    }
    let merged: usize = spans.iter().map(|(first, last, _)| last - first).sum();
    assert_eq!(u32::try_from(merged), Ok(split.merged.count_ones()), "{split:?}");
    let longest = split.stages.iter().flatten().max().copied();
    assert_eq!(split.dominant().and_then(|index| split.stages[index]), longest);
}

proptest! {
    #[test]
    fn request_stages_add_up(moments in request_moments(), ended in moment()) {
        let RequestSplit { split, accept } = moments.split(0, ended);
        prop_assert_eq!(accept, None);
        check(&split, span(array(&moments).into_iter().chain([ended])));
    }

    #[test]
    fn the_wait_for_accept_is_in_no_stage(moments in request_moments(), accepted in moment(), ended in moment()) {
        let RequestSplit { split, accept } = moments.split(accepted, ended);
        prop_assert_eq!(accept.is_some(), accepted != 0 && moments.queued != 0);
        let span = span(array(&moments).into_iter().chain([ended, accepted]));
        check(&split, span);
        prop_assert!(u128::from(split.total) + u128::from(accept.unwrap_or(0)) <= u128::from(span));
    }

    #[test]
    fn what_accept_takes_is_missing_exactly_from_a_request_in_order(
        gaps in [(); 8].map(|()| 1..1000_u64), accepted in 1..10_000_u64,
    ) {
        let mut now = 0;
        let moments = moments(gaps.map(|gap| { now += gap; now }));
        let without = moments.split(0, 0).split;
        let with = moments.split(accepted, 0);
        let accept = with.accept.unwrap();
        prop_assert_eq!(with.split.total + accept, without.total);
        prop_assert_eq!(accept, accepted.clamp(moments.queued, moments.first_read) - moments.queued);
        // It is taken from pickup alone.
        for stage in RequestStage::ALL {
            let taken = if stage == RequestStage::Pickup { accept } else { 0 };
            let index = stage as usize;
            prop_assert_eq!(with.split.stages[index].unwrap() + taken, without.stages[index].unwrap());
        }
    }

    #[test]
    fn leaving_a_moment_out_merges_and_keeps_the_total(gaps in [(); 8].map(|()| 1..1000_u64), missing in 1..7_usize) {
        let mut now = 0;
        let mut all = gaps.map(|gap| { now += gap; now });
        let whole = moments(all).split(0, 0).split;
        all[missing] = 0;
        let merged = moments(all).split(0, 0).split;
        prop_assert_eq!(merged.total, whole.total);
        prop_assert_eq!(merged.merged, 1 << missing);
        prop_assert_eq!(merged.stages[missing], None);
        let neighbours = whole.stages[missing - 1].unwrap() + whole.stages[missing].unwrap();
        prop_assert_eq!(merged.stages[missing - 1], Some(neighbours));
    }

    #[test]
    fn an_interrupted_request_lasts_until_it_was_looked_at(
        gaps in [(); 9].map(|()| 1..1000_u64), reached in 1..8_usize,
    ) {
        let mut now = 0;
        let times = gaps.map(|gap| { now += gap; now });
        let mut all = [0; 8];
        all[..reached].copy_from_slice(&times[..reached]);
        let split = moments(all).split(0, times[reached]).split;
        prop_assert_eq!(split.total, times[reached] - times[0]);
        prop_assert_eq!(split.merged, 0);
        prop_assert_eq!(split.stages.iter().flatten().count(), reached);
        prop_assert_eq!(split.stages[reached - 1], Some(gaps[reached]));
    }

    #[test]
    fn connection_stages_add_up(syn in moment(), synack in moment(), established in moment(), accepted in moment()) {
        let moments = ConnectionMoments { syn, synack, established, accepted };
        check(&moments.split(), span([syn, synack, established, accepted]));
    }
}

#[test]
fn nothing_seen_is_nothing_measured() {
    let RequestSplit { split, accept } = RequestMoments::default().split(0, 0);
    assert_eq!((split.stages, split.merged, split.total, accept), ([None; 7], 0, 0, None));
    assert_eq!(RequestMoments::default().split(5, 9).split.total, 0);
}

#[test]
fn a_moment_before_its_predecessor_counts_as_equal_to_it() {
    let split = moments([100, 90, 110, 110, 105, 130, 120, 150]).split(0, 0).split;
    assert_eq!(split.stages, [0, 10, 0, 0, 20, 0, 20].map(Some));
}

#[test]
fn the_wait_of_a_deferred_accept_is_no_round_trip() {
    let mut moments = ConnectionMoments { syn: 100, synack: 110, established: 3_000_150, accepted: 3_000_190 };
    moments.leave_deferral_out(150);
    assert_eq!(moments.split().stages, [Some(10), Some(40), Some(40)]);
    // The last ACK was not seen, or it was one of an earlier handshake.
    for acknowledged in [0, 90] {
        let seen = ConnectionMoments { syn: 100, synack: 110, established: 150, accepted: 190 };
        let mut moments = seen;
        moments.leave_deferral_out(acknowledged);
        assert_eq!(moments, seen);
    }
    let mut moments = ConnectionMoments { syn: 0, synack: 110, established: 3_000_150, accepted: 3_000_190 };
    moments.leave_deferral_out(150);
    assert_eq!(moments.split().stages, [None, Some(40), Some(40)]);
}
