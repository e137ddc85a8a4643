//! Who goes first on a machine that has too little for all.

use rustix::process::setpriority_process;
#[cfg(target_os = "linux")]
use thread_priority::{
    ThreadPriority,
    unix::{
        NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
    },
};

/// The lowest that there is: of 1,000 turns of a processor that somebody else wants, we get 15.
const LOWEST: i32 = 19;

/// Lets all other processes go first from now on, and for good: for work that nobody waits for, beside a program that somebody does wait for.
/// Call it before threads are started: on Linux it holds for the calling thread and those that it starts.
pub fn give_way() {
    if let Err(error) = setpriority_process(None, LOWEST) {
        // Then it goes on as all others do.
        tracing::debug!(%error, "the priority of this process cannot be lowered");
    }
}

/// Lets all others have the processor at once whenever they want it, from now on and for good: for work of which there is a little all the
/// time, beside a program that is to notice nothing of it. It holds for the calling thread and those that it starts, and is the class
/// `SCHED_IDLE`: the lowest priority alone does not make whoever has begun give way. Where there is no such class, it is [`give_way`].
pub fn stand_back() {
    #[cfg(target_os = "linux")]
    {
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
            tracing::debug!(%error, "this thread cannot stand back");
        }
    }
    #[cfg(not(target_os = "linux"))]
    give_way();
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use rustix::process::getpriority_process;
    use thread_priority::unix::thread_schedule_policy;

    use super::*;

    #[test]
    fn threads_that_are_started_later_stand_back_too() {
        let policies = thread::spawn(|| {
            let before = thread_schedule_policy().ok();
            stand_back();
            let own = thread_schedule_policy().ok();
            (before, own, thread::spawn(|| thread_schedule_policy().ok()).join().ok().flatten())
        });
        let idle = Some(ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle));
        let (before, own, of_child) = policies.join().unwrap();
        assert_ne!(before, idle);
        assert_eq!((own, of_child), (idle, idle));
    }

    #[test]
    fn threads_that_are_started_later_give_way_too() {
        let lowered = thread::spawn(|| {
            give_way();
            thread::spawn(|| getpriority_process(None).ok()).join().ok().flatten()
        });
        assert_eq!(lowered.join().ok().flatten(), Some(LOWEST));
    }
}
