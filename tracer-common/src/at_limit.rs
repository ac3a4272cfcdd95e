//! What a kernel does with a SYN for a listener whose SYN queue is exactly as long as it may be.
//!
//! Some kernels answer that SYN and drop the next one, others drop it. Neither is told by an event, so the first such SYN of a
//! listener waits for its SYN-ACK. It leaves in the same softirq. If none has left when the next SYN comes on the same CPU, or
//! on any CPU a moment later, the kernel drops.

use crate::shared::Shared;

/// Nanoseconds within which a SYN-ACK has left, on whichever CPU.
const SETTLED_NS: u64 = 1_000_000;

const UNKNOWN: u32 = 0;
const ANSWERS: u32 = 1;
const DROPS: u32 = 2;

/// What is known of it, for one listener.
#[repr(C)]
#[derive(Debug, Default)]
pub struct AtLimit {
    /// When the latest of the SYNs came that wait for a SYN-ACK.
    since: Shared<u64>,
    /// SYNs that wait for a SYN-ACK.
    waiting: Shared<u32>,
    /// The CPU on which the latest of them came.
    cpu: Shared<u32>,
    rule: Shared<u32>,
    padding: Shared<u32>,
}

/// What becomes of a SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// It is dropped.
    pub drops: bool,
    /// SYNs before it that turn out to have been dropped.
    pub before: u32,
}

impl AtLimit {
    /// A SYN came on the CPU `cpu`, for a SYN queue that is longer than it may be (`is_full`), or exactly as long.
    #[inline(always)]
    pub fn syn(&self, is_full: bool, cpu: u32, now: u64) -> Verdict {
        let (mut rule, mut waiting) = (self.rule.get(), self.waiting.get());
        let mut before = 0;
        if rule == UNKNOWN {
            let is_settled = self.cpu.get() == cpu || now.wrapping_sub(self.since.get()) >= SETTLED_NS;
            if waiting != 0 && is_settled {
                (before, waiting, rule) = (waiting, 0, DROPS);
                self.rule.set(rule);
            } else if !is_full {
                waiting += 1;
                self.cpu.set(cpu);
                self.since.set(now);
            }
            self.waiting.set(waiting);
        }
        Verdict { drops: is_full || rule == DROPS, before }
    }

    /// A SYN-ACK left for a SYN that came for a SYN queue as long as it may be. That is proof, whatever was thought before.
    #[inline(always)]
    pub fn answered(&self) {
        self.waiting.set(0);
        self.rule.set(ANSWERS);
    }

    /// Something dropped a SYN that waits for a SYN-ACK before that SYN came to the queue, such as the firewall. It proves nothing.
    #[inline(always)]
    pub fn dropped_before(&self) {
        self.waiting.set(self.waiting.get().saturating_sub(1));
    }
}

const _: () = assert!(size_of::<AtLimit>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERED: Verdict = Verdict { drops: false, before: 0 };
    const DROPPED: Verdict = Verdict { drops: true, before: 0 };

    #[test]
    fn a_kernel_that_answers_drops_only_beyond_the_limit() {
        let rule = AtLimit::default();
        assert_eq!(rule.syn(false, 0, 10), ANSWERED);
        rule.answered();
        assert_eq!(rule.syn(true, 0, 20), DROPPED);
        assert_eq!(rule.syn(false, 0, 30), ANSWERED);
    }

    #[test]
    fn a_kernel_that_drops_is_known_at_the_next_syn_and_the_first_is_counted_too() {
        for is_full in [false, true] {
            let rule = AtLimit::default();
            assert_eq!(rule.syn(false, 0, 10), ANSWERED);
            assert_eq!(rule.syn(is_full, 0, 20), Verdict { drops: true, before: 1 });
            assert_eq!(rule.syn(false, 1, 20), DROPPED);
        }
    }

    #[test]
    fn two_cpus_at_once_prove_nothing() {
        let rule = AtLimit::default();
        assert_eq!(rule.syn(false, 0, 10), ANSWERED);
        assert_eq!(rule.syn(false, 1, 11), ANSWERED);
        rule.answered();
        assert_eq!(rule.syn(false, 1, 12), ANSWERED);
        let rule = AtLimit::default();
        rule.syn(false, 0, 10);
        rule.syn(false, 1, 11);
        assert_eq!(rule.syn(false, 0, 11 + SETTLED_NS), Verdict { drops: true, before: 2 });
    }

    #[test]
    fn a_syn_that_never_came_to_the_queue_proves_nothing() {
        let rule = AtLimit::default();
        rule.syn(false, 0, 10);
        rule.dropped_before();
        assert_eq!(rule.syn(false, 0, 20), ANSWERED);
        assert_eq!(rule.syn(false, 0, 30), Verdict { drops: true, before: 1 });
        rule.dropped_before();
        assert_eq!(rule.syn(false, 0, 40), DROPPED);
    }

    #[test]
    fn a_syn_ack_undoes_a_wrong_guess() {
        let rule = AtLimit::default();
        rule.syn(false, 0, 10);
        rule.syn(false, 0, 20);
        rule.answered();
        assert_eq!(rule.syn(false, 0, 30), ANSWERED);
    }
}
