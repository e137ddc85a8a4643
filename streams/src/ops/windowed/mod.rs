//! `windowed_by`: in which windows a group is aggregated, and everything that may follow, one file each.

mod aggregate;
mod count;
mod emit;
mod on_late;
mod reduce;
mod session_aggregate;

use headwater_core::Data;

pub use self::emit::Emit;
use self::on_late::OnLate;
use crate::{KGroupedStream, KStream, Session, TimeWindows, Windows, windows::Windowed};

/// A grouped stream in windows: [`TimeWindows`] or [`SessionWindows`](crate::SessionWindows).
pub struct WindowedStream<K, V, W = TimeWindows> {
    pub(crate) stream: KStream<K, V>,
    pub(crate) windows: W,
    pub(crate) emit: Emit,
    pub(crate) on_late: Option<OnLate<K, V>>,
}

/// One value per key and window. Rows appear and change but no operator deletes them, so there is a null in it only
/// where the aggregate itself is one, by its serde.
pub struct WindowedTable<K, V>(pub(crate) KStream<Windowed<K>, V>);

/// One value per key and session. A session that becomes part of a longer one is deleted, so there is null in it.
pub struct SessionTable<K, V>(pub(crate) KStream<Windowed<K, Session>, Option<V>>);

impl<K: Data, V: Data> KGroupedStream<K, V> {
    /// Divides each group into windows of event time: [`TimeWindows`] are of one size and begin at fixed times,
    /// [`SessionWindows`](crate::SessionWindows) last as long as records follow one another.
    pub fn windowed_by<W: Windows>(&self, windows: W) -> WindowedStream<K, V, W> {
        if let Err(mistake) = windows.check() {
            self.0.graph.borrow_mut().mistake(mistake);
        }
        WindowedStream { stream: self.0.clone(), windows, emit: Emit::default(), on_late: None }
    }
}

impl<K: Data, V: Data> WindowedTable<K, V> {
    /// The results as a stream: the key with its window, the value, and as timestamp the highest one of the window's
    /// records so far.
    pub fn to_stream(&self) -> KStream<Windowed<K>, V> {
        self.0.clone()
    }
}

impl<K: Data, V: Data> SessionTable<K, V> {
    /// The results as a stream: the key with its session, the value, and as timestamp the session's end.
    ///
    /// When a record makes a session longer, or joins several, each of those that were there is sent once more, as `None` and
    /// with its own end as timestamp, and then the new one, as Kafka does; so a topic of them, compacted or in a table, holds
    /// each session once. Results on close ([`Emit::OnClose`]) are final, and never `None`.
    pub fn to_stream(&self) -> KStream<Windowed<K, Session>, Option<V>> {
        self.0.clone()
    }
}
