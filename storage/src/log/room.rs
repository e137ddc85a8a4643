//! What happens when the disk is full: nothing is decided that has no room, and what is decided waits until there is some.
//!
//! The journal has room for a group before its entries are decided, or the requests are refused: nothing of them was
//! written, and they may be tried again. Segments and checkpoints may be late: their batches are in the journal and in
//! memory. They are tried again when something is to be decided, and when too much waits in memory, commits are refused
//! too. So nothing waits for a timer, and everything goes on by itself when there is room.

use headwater_core::{Error, ErrorKind, Result, ledger::Entry};

use super::{
    journal::Kept,
    writer::{Round, Writer},
};

impl Writer {
    /// Takes `entries` into the round, all or none, when they have their room in the journal; they are left where they
    /// are otherwise. Later decisions of the round build on them; if the round fails, the log stops.
    ///
    /// # Errors
    /// `Full`: nothing has happened. After another one the round must fail: it is kept in `round.failed`.
    pub(super) fn enter(&mut self, entries: &mut Vec<Entry>, round: &mut Round) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.make_room(entries, round) {
            if error.kind() == ErrorKind::Full {
                round.refused = true;
                return Err(error.context("nothing was written, try again when there is room"));
            }
            round.failed = Some(again(&error));
            return Err(error);
        }
        for entry in &*entries {
            self.books.ledger.apply(entry).expect("the ledger decided so itself");
        }
        round.entries.append(entries);
        Ok(())
    }

    fn make_room(&mut self, entries: &[Entry], round: &mut Round) -> Result<()> {
        let frees = entries.iter().all(|entry| {
            matches!(
                entry,
                Entry::TopicDeleted { .. } | Entry::RecordsDeleted { .. } | Entry::GroupDeleted(_)
            )
        });
        if let Some(full) = round.no_room.as_ref().filter(|_| !frees) {
            return Err(again(full));
        }
        let mark = self.group.mark();
        if self.file_large(entries, round)? {
            return Ok(());
        }
        entries.iter().for_each(|entry| self.group.push(entry));
        let kept = if frees { Kept::No } else { Kept::Yes };
        let reserved = self.journal.reserve(self.group.size() as u64, kept);
        reserved.inspect_err(|_| self.group.take_back(mark))?;
        self.note_whole(entries, round);
        Ok(())
    }

    /// Why nothing may be decided now that takes memory: too much waits there, and cannot be written.
    pub(super) fn bound_tail(&mut self) -> Result<Option<Error>> {
        match self.books.bound_tail(&self.shared) {
            Err(error) if error.kind() == ErrorKind::Full => {
                self.meet_full(&error);
                Ok(self.books.is_tail_too_long(&self.shared).then_some(error))
            }
            done => done.map(|()| None),
        }
    }

    /// What can be done later is no reason to stop.
    pub(super) fn forgive_full(&mut self, done: Result<()>) -> Result<()> {
        match done {
            Err(error) if error.kind() == ErrorKind::Full => {
                self.meet_full(&error);
                Ok(())
            }
            done => done,
        }
    }

    /// Says it once.
    pub(super) fn meet_full(&mut self, error: &Error) {
        if !self.late {
            let folder = self.shared.layout.folder.display();
            tracing::warn!(%folder, error = error.report(), "the log waits for room, and refuses what needs it");
        }
        self.late = true;
    }

    /// A checkpoint was made: all that was late has been written.
    pub(super) fn catch_up(&mut self) {
        if self.late {
            let folder = self.shared.layout.folder.display();
            tracing::info!(%folder, "the log has room again, and has caught up");
        }
        self.late = false;
    }
}

/// The same error once more.
pub(super) fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.report())
}
