//! The kinds of records.

/// What a record is.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A [`RequestRecord`](crate::record::RequestRecord).
    Request = 1,
    /// A [`ConnectionRecord`](crate::record::ConnectionRecord) of a connection that the application has begun to use.
    Opened = 2,
    /// A [`ConnectionRecord`](crate::record::ConnectionRecord) of a connection that is gone.
    Closed = 3,
    /// A [`RejectionRecord`](crate::rejection::RejectionRecord).
    Rejection = 4,
    /// A [`ListenerRecord`](crate::record::ListenerRecord).
    Listener = 5,
}
