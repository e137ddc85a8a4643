//! What was shown and is lost, because the machine stopped before it was on disk: the log ends before it for those who look, as it will for
//! those who open it.

use headwater_core::{Error, ErrorKind, Result};

use super::{
    super::{journal::Position, published},
    Observer,
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
}
