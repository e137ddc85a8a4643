//! `windowed_by` and `emit`: in which windows a group is aggregated, and when results are sent on.

use headwater_core::Data;

use crate::{KGroupedStream, KStream, TimeWindows, windows::Windowed};

/// When a windowed aggregate sends a result on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Emit {
    /// After every record (Kafka: `EmitStrategy.onWindowUpdate`, without its cache: one result per record, always).
    #[default]
    OnUpdate,
    /// Once, when stream time has passed the window's end and grace (Kafka: `EmitStrategy.onWindowClose`, without its
    /// wall-clock throttle).
    OnClose,
}

/// A grouped stream in windows.
pub struct WindowedStream<K, V> {
    pub(crate) stream: KStream<K, V>,
    pub(crate) windows: TimeWindows,
    pub(crate) emit: Emit,
}

/// One value per key and window. Rows appear and change but are never deleted, so there is no null in it.
pub struct WindowedTable<K, V>(pub(crate) KStream<Windowed<K>, V>);

impl<K: Data, V: Data> KGroupedStream<K, V> {
    /// Divides each group into windows of event time.
    pub fn windowed_by(&self, windows: TimeWindows) -> WindowedStream<K, V> {
        if let Err(mistake) = windows.check() {
            self.0.graph.borrow_mut().mistake(mistake);
        }
        WindowedStream { stream: self.0.clone(), windows, emit: Emit::default() }
    }
}

impl<K: Data, V: Data> WindowedStream<K, V> {
    /// Says when results are sent on; after every record unless told otherwise.
    #[must_use]
    pub fn emit(mut self, emit: Emit) -> Self {
        self.emit = emit;
        self
    }
}

impl<K: Data, V: Data> WindowedTable<K, V> {
    /// The results as a stream: the key with its window, the value, and as timestamp the highest one of the window's
    /// records so far.
    pub fn to_stream(&self) -> KStream<Windowed<K>, V> {
        self.0.clone()
    }
}
