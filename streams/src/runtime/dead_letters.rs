//! What is said of a record that is left out, and how it becomes a record of the dead-letter topic.

use bytes::Bytes;
use headwater_core::{Error, Headers, Offset, Timestamp, TopicPartition};

use super::sinks::{RECORD_BYTES_MAX, headers_size};

/// To what a message is cut when the record would be too large, in bytes. Names of topics are shorter than that, too: what is
/// said of a record by itself always fits into one.
const MESSAGE_BYTES_MIN: usize = 1024;

/// What is known of a record that is left out.
pub(super) struct Failed<'a> {
    pub(super) place: Option<(&'a TopicPartition, Offset)>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) timestamp: Timestamp,
}

/// As it is sent.
pub(super) struct Letter<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers,
}

impl<'a> Failed<'a> {
    /// With its own headers, and those that say why. The largest records have no room for these: they lose as much as they
    /// must, and a header says what. All of them can be read where they lie.
    pub(super) fn letter(&self, own: &Headers, error: &Error) -> Letter<'a> {
        let message = error.report();
        let short =
            message.char_indices().take_while(|(at, c)| at + c.len_utf8() <= MESSAGE_BYTES_MIN).last();
        let short = &message[..short.map_or(0, |(at, c)| at + c.len_utf8())];
        let whole = (self.key, self.value, own);
        let none = Headers::new();
        let mut letter = self.written(whole, error, &message, None);
        let smaller = [
            (whole, "message"),
            ((self.key, None, own), "message, value"),
            ((None, None, &none), "message, value, key, headers"),
        ];
        for (record, lost) in smaller {
            if letter.fits() {
                break;
            }
            letter = self.written(record, error, short, Some(lost));
        }
        letter
    }

    /// Headers are called as in KIP-1034.
    fn written(
        &self,
        (key, value, own): (Option<&'a [u8]>, Option<&'a [u8]>, &Headers),
        error: &Error,
        message: &str,
        lost: Option<&'static str>,
    ) -> Letter<'a> {
        let text = |text: String| Bytes::from(text.into_bytes());
        let mut headers = own
            .clone()
            .with("__streams.errors.exception", text(format!("{:?}", error.kind())))
            .with("__streams.errors.message", text(message.to_owned()));
        if let Some((partition, offset)) = self.place {
            headers = headers
                .with("__streams.errors.topic", text(partition.topic.to_string()))
                .with("__streams.errors.partition", text(partition.partition.to_string()))
                .with("__streams.errors.offset", text(offset.to_string()));
        }
        if let Some(lost) = lost {
            headers = headers.with("__headwater.errors.cut", lost);
        }
        Letter { key, value, headers }
    }
}

impl Letter<'_> {
    fn fits(&self) -> bool {
        let record = self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len);
        record + headers_size(&self.headers) <= RECORD_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use headwater_core::{Partition, TopicName};

    use super::*;

    #[test]
    fn as_much_is_cut_as_must_be() {
        let partition = TopicPartition::new(TopicName::new("in").expect("legal"), Partition(0));
        let large = vec![b'x'; RECORD_BYTES_MAX];
        let half = &large[..RECORD_BYTES_MAX / 2];
        let own = |bytes: &[u8]| Headers::new().with("own", Bytes::copy_from_slice(bytes));
        let letter = |key, value, own, message: usize| {
            let failed = Failed {
                place: Some((&partition, Offset(7))),
                key: Some(key),
                value: Some(value),
                timestamp: Timestamp(0),
            };
            // Characters of two bytes, which are not cut in two.
            let letter = failed.letter(&own, &Error::processing("é".repeat(message)));
            assert!(letter.fits());
            assert_eq!(letter.headers.last("__streams.errors.offset"), Some(&b"7"[..]));
            assert!(str::from_utf8(letter.headers.last("__streams.errors.message").expect("said")).is_ok());
            let cut = letter.headers.last("__headwater.errors.cut").map(String::from_utf8_lossy);
            (letter.key.is_some(), letter.value.is_some(), cut.map(Cow::into_owned))
        };
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(letter(b"k", half, own(b""), 1), (true, true, None));
        assert_eq!(letter(b"k", half, own(b""), RECORD_BYTES_MAX), (true, true, said("message")));
        assert_eq!(letter(b"k", &large, own(b""), 1), (true, false, said("message, value")));
        let all = said("message, value, key, headers");
        assert_eq!(letter(&large, b"v", own(b""), 1), (false, false, all.clone()));
        assert_eq!(letter(half, b"v", own(half), 1), (false, false, all));
    }
}
