//! The rows of a table, in blocks that stay where they are.
//!
//! When a vector grows, all rows are copied, and are in memory twice while that lasts. Here only the first block grows like one, so
//! that a table of few rows is small.

use std::ops::{Index, IndexMut};

const BLOCK_BITS: u32 = 10;
const BLOCK_ROWS: usize = 1 << BLOCK_BITS;

pub(super) struct Rows<R> {
    /// All but the last are full.
    blocks: Vec<Vec<R>>,
}

impl<R> Rows<R> {
    pub(super) const fn new() -> Self {
        Self { blocks: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows_before_last() + self.blocks.last().map_or(0, Vec::len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Rows that there is memory for.
    pub(super) fn capacity(&self) -> usize {
        self.rows_before_last() + self.blocks.last().map_or(0, Vec::capacity)
    }

    fn rows_before_last(&self) -> usize {
        self.blocks.len().saturating_sub(1) * BLOCK_ROWS
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&R> {
        self.blocks.get(block_of(at))?.get(place_in_block(at))
    }

    pub(super) fn push(&mut self, row: R) {
        match self.blocks.last_mut() {
            Some(last) if last.len() < BLOCK_ROWS => last.push(row),
            last => {
                let capacity = if last.is_some() { BLOCK_ROWS } else { 1 };
                let mut block = Vec::with_capacity(capacity);
                block.push(row);
                self.blocks.push(block);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &R> {
        self.blocks.iter().flatten()
    }
}

impl<R> Index<u32> for Rows<R> {
    type Output = R;

    #[inline]
    fn index(&self, at: u32) -> &R {
        &self.blocks[block_of(at)][place_in_block(at)]
    }
}

impl<R> IndexMut<u32> for Rows<R> {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut R {
        &mut self.blocks[block_of(at)][place_in_block(at)]
    }
}

fn block_of(at: u32) -> usize {
    (at >> BLOCK_BITS) as usize
}

fn place_in_block(at: u32) -> usize {
    at as usize % BLOCK_ROWS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lie_where_they_were_put() {
        let mut rows = Rows::new();
        assert!(rows.is_empty() && rows.get(0).is_none());
        let many = 3 * BLOCK_ROWS as u32 + 1;
        for at in 0..many {
            assert_eq!(rows.len(), at as usize);
            assert!(rows.get(at).is_none());
            rows.push(at);
            rows[at] += 7;
        }
        assert!((0..many).all(|at| rows[at] == at + 7 && rows.get(at) == Some(&(at + 7))));
        assert!(rows.iter().copied().eq(7..many + 7));
        assert!(rows.get(many).is_none() && rows.get(u32::MAX).is_none());
        assert_eq!(rows.capacity(), 4 * BLOCK_ROWS);
    }

    #[test]
    fn few_rows_take_little() {
        let mut rows = Rows::new();
        assert_eq!(rows.capacity(), 0);
        rows.push(1_u64);
        assert!(rows.capacity() <= 4, "{}", rows.capacity());
    }
}
