//! Who goes first on a machine that has too little for all.

use rustix::process::setpriority_process;

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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn threads_that_are_started_later_give_way_too() {
        let lowered = thread::spawn(|| {
            give_way();
            thread::spawn(|| getpriority_process(None).ok()).join().ok().flatten()
        });
        assert_eq!(lowered.join().ok().flatten(), Some(LOWEST));
    }
}
