//! What the handles of a log and its journal thread share.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use headwater_core::{
    Error, ErrorKind, Positions, Result, Signal,
    group::Coordinator,
    ledger::{GroupPositions, Place},
};

use super::{
    layout::Layout,
    options::{LogOptions, RecoveryReport},
    queue::Queue,
    reader::{Reader, Wanted},
    span::FileSpan,
    spare::Spare,
    visible::Visible,
};
use crate::lock::FolderLock;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) layout: Layout,
    pub(super) options: LogOptions,
    pub(super) recovery: RecoveryReport,
    pub(super) queue: Queue,
    pub(super) appended: Signal,
    pub(super) groups: Arc<Coordinator>,
    pub(super) reader: Reader,
    pub(super) spare: Spare,
    visible: RwLock<Visible>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Owns the folder.
    Open(FolderLock),
    /// Still owns the folder, for those who read.
    Failed(#[expect(dead_code, reason = "keeps others out")] FolderLock, String),
    Closed,
}

impl Shared {
    pub(super) fn new(
        layout: Layout,
        options: LogOptions,
        lock: FolderLock,
        opened: (Visible, RecoveryReport),
    ) -> Self {
        let (visible, recovery) = opened;
        Self {
            recovery,
            queue: Queue::new(options.queue_bytes_max),
            appended: Signal::default(),
            groups: Arc::default(),
            reader: Reader::new(Arc::clone(&layout.fs), options.open_files_max),
            spare: Spare::new(options.tail_bytes_max),
            layout,
            options,
            visible: RwLock::new(visible),
            state: Mutex::new(State::Open(lock)),
        }
    }

    /// For readers, who clone what they need and let go before they read files.
    pub(super) fn visible(&self) -> RwLockReadGuard<'_, Visible> {
        // A panic in between would be a bug of ours, and stop the journal thread; what it left can still be read.
        self.visible.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Positions with partitions by number.
    pub(super) fn placed(&self, positions: &Positions) -> Result<GroupPositions> {
        super::check_name("group", &positions.group.0)?;
        let visible = self.visible();
        let committed = positions.committed.iter();
        let committed = committed.map(|(partition, at)| Ok((visible.place(partition)?, at.clone())));
        Ok(GroupPositions { group: positions.group.clone(), committed: committed.collect::<Result<_>>()? })
    }

    /// Has groups share out the partitions that there are now.
    pub(super) fn share_out(&self) {
        self.groups.set_topics(&self.visible().topics());
        self.groups.wake();
    }

    /// For the journal thread.
    pub(super) fn visible_mut(&self) -> RwLockWriteGuard<'_, Visible> {
        self.visible.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the names of a partition's files while it is sure that they are its own; `None` when it is gone.
    /// It must not take long: the journal thread waits to show anything.
    pub(super) fn while_there<T>(&self, place: Place, act: impl FnOnce(&FileSpan) -> T) -> Option<T> {
        let visible = self.visible();
        visible.files(place).map(|files| act(&files))
    }

    /// Whether what was read from files is what is there now; they are closed when it is not.
    pub(super) fn is_current(&self, files: &FileSpan, wanted: &Wanted<'_>) -> bool {
        let current = self.visible().agrees(wanted.partition, files, wanted.from);
        if !current {
            self.reader.forget_span(files);
        }
        current
    }

    /// The log was closed as it should be: somebody else may open it.
    pub(super) fn stop_closed(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Closed;
        self.stop();
    }

    /// The log stops after an error that it must not survive. What is durable can still be read.
    pub(super) fn stop_failed(&self, cause: String) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            *state = match std::mem::replace(&mut *state, State::Closed) {
                State::Open(lock) => State::Failed(lock, cause),
                stopped => stopped,
            };
        }
        self.stop();
    }

    fn stop(&self) {
        self.queue.close();
        self.appended.close();
        self.groups.close();
    }

    /// Whether reads are answered.
    pub(super) fn check_readable(&self) -> Result<()> {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Closed => Err(Error::new(ErrorKind::Closed, self.closed_text())),
            State::Open(_) | State::Failed(..) => Ok(()),
        }
    }

    /// Why nothing is written any more.
    pub(super) fn stopped(&self) -> Error {
        let text = match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Failed(_, cause) => format!(
                "log stopped after an error: see to the cause and open it again. folder={}, cause={cause}",
                self.layout.folder.display()
            ),
            State::Open(_) | State::Closed => self.closed_text(),
        };
        Error::new(ErrorKind::Closed, text)
    }

    fn closed_text(&self) -> String {
        format!("log was closed. folder={}", self.layout.folder.display())
    }
}
