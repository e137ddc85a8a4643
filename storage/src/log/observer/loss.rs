//! What was shown and is lost, because the machine stopped before it was on disk: the log ends before it for those who look, as it will for
//! those who open it.

use headwater_core::{Error, ErrorKind, Result};

use super::{
    super::{journal::Position, published},
    Observer,
    patience::Patience,
    view::View,
};

impl Observer {
    /// What was published may be lost when the machine stops, if the owner did not sync it. Then the journal ends as one
    /// that recovery would take.
    pub(super) fn accept_loss(&self, view: &mut Option<View>, error: Error) -> Result<()> {
        if error.kind() != ErrorKind::Corrupt {
            return Err(error);
        }
        let published = published::read(&self.layout);
        let whole = || -> Result<(View, Position)> {
            let mut next = View::load(&self.layout)?;
            let end = View::last_good(&self.layout)?;
            next.advance(&self.layout, end)?;
            Ok((next, end))
        };
        let (mut next, end) = match whole() {
            Ok(whole) => whole,
            // It knows more of the place.
            Err(found) if found.kind() == ErrorKind::Corrupt => return Err(found),
            Err(_) => return Err(error),
        };
        if published.is_none_or(|published| end.group >= published.group) {
            return Err(error);
        }
        tracing::warn!(
            folder = %self.layout.folder.display(), group = end.group, ?published,
            "the journal ends before what its last owner had shown, which was never on disk"
        );
        next.published = published;
        *view = Some(next);
        Ok(())
    }

    /// What the journal refers to may be lost, too: then the log ends for those who open it before what it ends with now.
    ///
    /// # Errors
    /// `error`, when it does not.
    pub(super) fn accept_lost_files(&self, error: Error) -> Result<()> {
        let mut view = self.lock();
        let known = view.as_ref().map(|view| view.position.group);
        match View::last_good(&self.layout) {
            Ok(end) if known.is_some_and(|known| end.group < known) => self.accept_loss(&mut view, error),
            _ => Err(error),
        }
    }

    /// Reads the journal as whoever opens the log does, with the bodies of which nobody asks here, because files have them or they were
    /// deleted.
    ///
    /// # Errors
    /// `Corrupt` when the log would not open, or without something that is seen here.
    pub(super) async fn check_journal(&self) -> Result<()> {
        let mut patience = Patience::default();
        loop {
            let seen = self.ask(|view| Ok(view.position.group)).await?;
            let error = match View::last_good(&self.layout) {
                Ok(end) if end.group >= seen => return Ok(()),
                Ok(Position { segment, byte, group }) => Error::corrupt(format!(
                    "a journal group is damaged, and whoever opens the log cuts what is behind it: restore the file from a copy. file={}, byte={byte}, group={group}, seen={seen}",
                    self.layout.journal_segment(segment).display()
                )),
                Err(error) => error,
            };
            self.watch.pause(patience.look_again(error)?).await?;
        }
    }
}
