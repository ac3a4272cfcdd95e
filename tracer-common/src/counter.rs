//! Per-CPU counters of the kernel side: the truth about totals and losses, whatever happens to the records. Of the
//! filters, the one by process applies to ended requests and to records only: who reads is not known before.

/// What is counted; the value is the index into the `COUNTERS` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Connections that a listener of this host established and the filters let through.
    ConnectionsOpened,
    /// Connections that were open already when tracing began and were adopted at their first event.
    ConnectionsAdopted,
    /// Traced connections that closed.
    ConnectionsClosed,
    /// Requests whose first byte was seen.
    RequestsBegun,
    /// Requests that ended: their last byte acknowledged, the next request begun, or the connection closed.
    RequestsEnded,
    /// Times that a request was answered further after its end had been reported.
    RequestsReopened,
    /// Request records that found no room in the ring buffer.
    RequestRecordsLost,
    /// Connection records that found no room in the ring buffer.
    ConnectionRecordsLost,
    /// Connections not traced because the kernel had no memory for their state.
    StorageFailed,
    /// Connections whose SYN and SYN-ACK were not seen, or whose times made way for those of others: their stages `synack` and
    /// `handshake` are absent.
    HandshakesLost,
    /// Accept times that found no room: the stage `accept` of that connection is absent.
    AcceptsLost,
    /// Rejection records that found no room in the ring buffer; they are counted all the same.
    RejectionRecordsLost,
    /// Rejections that could not be counted, because there were too many kinds of them at once.
    RejectionsUncounted,
    /// SYNs whose listener's queue could not be noted, because there were too many listeners at once.
    ListenersUncounted,
    /// Resets and retransmits that could not be held against the kernel's own counters, because there were too many network
    /// namespaces.
    NamespacesUncounted,
    /// Answers of netfilter that found no room: a reject is reported as a drop.
    AnswersLost,
    /// Connections of which what comes for them is not recognised, because others that closed within two seconds took their
    /// place.
    ClosesForgotten,
    /// With the port filter: SYNs for which nothing listens and which were not counted, because they were for too many addresses.
    ArrivalsUncounted,
    /// Handshakes of this host whose SYN was not seen, within ten seconds after SYNs for which nothing listens made way for others: one of
    /// these may be the SYN, and this host maps its port.
    SynsForgotten,
    /// Packets for a connection that was closed, of which the record found no room in the ring buffer. Only that record tells whether a
    /// request met the close, so nothing else counts them.
    LateRecordsLost,
}

impl Counter {
    /// All counters, in the order of their indices.
    pub const ALL: [Self; 20] = [
        Self::ConnectionsOpened,
        Self::ConnectionsAdopted,
        Self::ConnectionsClosed,
        Self::RequestsBegun,
        Self::RequestsEnded,
        Self::RequestsReopened,
        Self::RequestRecordsLost,
        Self::ConnectionRecordsLost,
        Self::StorageFailed,
        Self::HandshakesLost,
        Self::AcceptsLost,
        Self::RejectionRecordsLost,
        Self::RejectionsUncounted,
        Self::ListenersUncounted,
        Self::NamespacesUncounted,
        Self::AnswersLost,
        Self::ClosesForgotten,
        Self::ArrivalsUncounted,
        Self::SynsForgotten,
        Self::LateRecordsLost,
    ];

    /// The number of counters.
    #[expect(clippy::cast_possible_truncation, reason = "a dozen")]
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// The name under which the counter is shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnectionsOpened => "connections_opened",
            Self::ConnectionsAdopted => "connections_adopted",
            Self::ConnectionsClosed => "connections_closed",
            Self::RequestsBegun => "requests_begun",
            Self::RequestsEnded => "requests_ended",
            Self::RequestsReopened => "requests_reopened",
            Self::RequestRecordsLost => "request_records_lost",
            Self::ConnectionRecordsLost => "connection_records_lost",
            Self::StorageFailed => "storage_failed",
            Self::HandshakesLost => "handshakes_lost",
            Self::AcceptsLost => "accepts_lost",
            Self::RejectionRecordsLost => "rejection_records_lost",
            Self::RejectionsUncounted => "rejections_uncounted",
            Self::ListenersUncounted => "listeners_uncounted",
            Self::NamespacesUncounted => "namespaces_uncounted",
            Self::AnswersLost => "answers_lost",
            Self::ClosesForgotten => "closes_forgotten",
            Self::ArrivalsUncounted => "arrivals_uncounted",
            Self::SynsForgotten => "syns_forgotten",
            Self::LateRecordsLost => "late_records_lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn indices_are_dense_and_names_unique() {
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, index);
        }
        let names: std::collections::HashSet<_> = Counter::ALL.map(Counter::name).into();
        assert_eq!(names.len(), Counter::ALL.len());
    }
}
