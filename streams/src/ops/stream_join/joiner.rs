//! What the three kinds of join make of values that meet, and of those that meet nobody.

use std::sync::Arc;

/// A kind of join, with the user's function.
pub(super) trait Joiner<K, V, W, R>: Send + Sync + 'static {
    /// The method that makes it.
    const METHOD: &'static str;
    /// Whether a left, and whether a right value that meets nobody makes a result.
    const LEFT_ALONE: bool;
    const RIGHT_ALONE: bool;

    fn both(&self, key: &K, left: &V, right: &W) -> R;

    /// `None`, always, when it makes no result.
    fn left(&self, key: &K, left: &V) -> Option<R>;
    fn right(&self, key: &K, right: &W) -> Option<R>;
}

pub(super) struct Inner<F>(pub(super) F);

impl<K, V, W, R, F> Joiner<K, V, W, R> for Inner<F>
where
    F: Fn(&K, &V, &W) -> R + Send + Sync + 'static,
{
    const METHOD: &'static str = "join";
    const LEFT_ALONE: bool = false;
    const RIGHT_ALONE: bool = false;

    #[inline]
    fn both(&self, key: &K, left: &V, right: &W) -> R {
        (self.0)(key, left, right)
    }

    fn left(&self, _: &K, _: &V) -> Option<R> {
        None
    }

    fn right(&self, _: &K, _: &W) -> Option<R> {
        None
    }
}

pub(super) struct Left<F>(pub(super) F);

impl<K, V, W, R, F> Joiner<K, V, W, R> for Left<F>
where
    F: Fn(&K, &V, Option<&W>) -> R + Send + Sync + 'static,
{
    const METHOD: &'static str = "left_join";
    const LEFT_ALONE: bool = true;
    const RIGHT_ALONE: bool = false;

    #[inline]
    fn both(&self, key: &K, left: &V, right: &W) -> R {
        (self.0)(key, left, Some(right))
    }

    fn left(&self, key: &K, left: &V) -> Option<R> {
        Some((self.0)(key, left, None))
    }

    fn right(&self, _: &K, _: &W) -> Option<R> {
        None
    }
}

pub(super) struct Outer<F>(pub(super) F);

impl<K, V, W, R, F> Joiner<K, V, W, R> for Outer<F>
where
    F: Fn(&K, Option<&V>, Option<&W>) -> R + Send + Sync + 'static,
{
    const METHOD: &'static str = "outer_join";
    const LEFT_ALONE: bool = true;
    const RIGHT_ALONE: bool = true;

    #[inline]
    fn both(&self, key: &K, left: &V, right: &W) -> R {
        (self.0)(key, Some(left), Some(right))
    }

    fn left(&self, key: &K, left: &V) -> Option<R> {
        Some((self.0)(key, Some(left), None))
    }

    fn right(&self, key: &K, right: &W) -> Option<R> {
        Some((self.0)(key, None, Some(right)))
    }
}

/// The same join as the right side sees it.
pub(super) struct Flipped<J>(pub(super) Arc<J>);

impl<K, V, W, R, J: Joiner<K, V, W, R>> Joiner<K, W, V, R> for Flipped<J> {
    const METHOD: &'static str = J::METHOD;
    const LEFT_ALONE: bool = J::RIGHT_ALONE;
    const RIGHT_ALONE: bool = J::LEFT_ALONE;

    #[inline]
    fn both(&self, key: &K, left: &W, right: &V) -> R {
        self.0.both(key, right, left)
    }

    fn left(&self, key: &K, left: &W) -> Option<R> {
        self.0.right(key, left)
    }

    fn right(&self, key: &K, right: &V) -> Option<R> {
        self.0.left(key, right)
    }
}
