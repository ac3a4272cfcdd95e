//! The columns of the table of requests, and which of them a terminal has room for.

use tracer_common::stage::RequestStage;

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// When the request began, UTC.
    Time,
    /// The peer's address and port.
    Peer,
    /// The local port.
    Local,
    /// The network namespace.
    Namespace,
    /// Who read it.
    Process,
    /// Bytes received.
    In,
    /// Bytes written.
    Out,
    /// The sum of its stages.
    Total,
    /// The wait for `accept()`, of the first request on a connection.
    Accept,
    /// The stage with this index.
    Stage(usize),
    /// The stage that dominates, with its share: stands for all stages where these have no room.
    Mostly,
    /// What is out of the ordinary.
    Note,
    /// The systemd unit or the control group.
    Unit,
}

impl Column {
    /// The heading.
    pub fn heading(self) -> String {
        match self {
            Self::Time => "TIME(UTC)".to_owned(),
            Self::Peer => "PEER".to_owned(),
            Self::Local => "LOCAL".to_owned(),
            Self::Namespace => "NETNS".to_owned(),
            Self::Process => "PROCESS".to_owned(),
            Self::In => "IN".to_owned(),
            Self::Out => "OUT".to_owned(),
            Self::Total => "TOTAL".to_owned(),
            Self::Accept => "ACCEPT".to_owned(),
            Self::Stage(index) => RequestStage::ALL[index].name().to_uppercase(),
            Self::Mostly => "MOSTLY".to_owned(),
            Self::Note => "NOTE".to_owned(),
            Self::Unit => "UNIT".to_owned(),
        }
    }

    /// Characters, without the space that parts it from the next column. Peers, namespaces and processes may have more.
    pub fn width(self) -> usize {
        match self {
            Self::Time | Self::Namespace => 12,
            Self::Peer => 21,
            Self::Local | Self::In | Self::Out | Self::Total => 6,
            // Six for the time or more for the heading above it, and one for the mark.
            Self::Accept => 7,
            Self::Stage(index) => RequestStage::ALL[index].name().len().max(6) + 1,
            Self::Process => 18,
            Self::Mostly => 20,
            Self::Note => 10,
            Self::Unit => 24,
        }
    }

    /// Whether its cells end in a mark or in a space for it.
    pub const fn is_marked(self) -> bool {
        matches!(self, Self::Accept | Self::Stage(_))
    }

    /// Whether its cells are numbers, which stand at the right.
    pub const fn is_right(self) -> bool {
        matches!(self, Self::In | Self::Out | Self::Total | Self::Accept | Self::Stage(_))
    }
}

/// What is given up when there is no room, in this order.
const GIVEN_UP: [&[Column]; 4] = [&[Column::Unit], &[Column::In, Column::Out], &[Column::Mostly], &[Column::Process]];
/// And then, in this order. Of several namespaces the port tells more than the peer does.
const GIVEN_UP_LAST: [[&[Column]; 2]; 2] = [[&[Column::Local], &[Column::Peer]], [&[Column::Peer], &[Column::Local]]];

/// The columns that are not always there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// There are systemd units or control groups.
    pub units: bool,
    /// There are several network namespaces.
    pub namespaces: bool,
}

/// The columns for lines of at most `width` characters: all if there is no limit, but `UNIT` and `NETNS` only where they are
/// wanted. `NETNS` is never given up: without it two listeners look like one.
/// First `UNIT` is given up, then `IN` and `OUT`, then the stages for the one that dominates, then `PROCESS`, `LOCAL` and
/// `PEER`; with `NETNS` the last two in the other order.
pub fn columns(width: Option<usize>, wanted: Wanted) -> Vec<Column> {
    use Column::{Accept, In, Local, Mostly, Namespace, Note, Out, Peer, Process, Stage, Time, Total, Unit};
    let mut columns = vec![Time, Peer, Local];
    columns.extend(wanted.namespaces.then_some(Namespace));
    columns.extend([Process, In, Out, Total, Accept]);
    columns.extend((0..RequestStage::ALL.len()).map(Stage));
    columns.push(Note);
    columns.extend(wanted.units.then_some(Unit));
    for given_up in GIVEN_UP.into_iter().chain(GIVEN_UP_LAST[usize::from(wanted.namespaces)]) {
        let needed = columns.iter().map(|column| column.width() + 1).sum::<usize>() - 1;
        if width.is_none_or(|width| needed <= width) {
            break;
        }
        if *given_up == [Mostly] {
            columns.retain(|column| !column.is_marked());
            let after_total = columns.iter().position(|&column| column == Total).map_or(0, |total| total + 1);
            columns.insert(after_total, Mostly);
        } else {
            columns.retain(|column| !given_up.contains(column));
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::{Column::*, *};

    #[test]
    fn columns_are_given_up_in_the_stated_order() {
        let units = Wanted { units: true, ..Wanted::default() };
        assert_eq!(columns(None, units).len(), 17);
        assert_eq!(columns(Some(185), units), columns(None, units));
        let narrower = |width| columns(Some(width), units);
        assert!(!narrower(184).contains(&Unit) && narrower(160).contains(&In));
        assert_eq!(narrower(160), columns(None, Wanted::default()));
        assert!(!narrower(159).contains(&In) && narrower(159).contains(&Stage(6)));
        assert_eq!(narrower(120), [Time, Peer, Local, Process, Total, Mostly, Note]);
        assert_eq!(narrower(80), [Time, Peer, Local, Total, Mostly, Note]);
        assert_eq!(narrower(79), [Time, Peer, Total, Mostly, Note]);
        assert_eq!(narrower(10), [Time, Total, Mostly, Note]);
    }

    #[test]
    fn namespaces_are_shown_beside_the_port_and_kept() {
        let both = Wanted { units: true, namespaces: true };
        assert_eq!(columns(None, both)[2..4], [Local, Namespace]);
        assert_eq!(columns(Some(80), both), [Time, Local, Namespace, Total, Mostly, Note]);
        assert_eq!(columns(Some(10), both), [Time, Namespace, Total, Mostly, Note]);
    }
}
