//! Values of key attributes: parsed from what a user wrote, read from what DynamoDB returned, ordered as DynamoDB
//! orders them.

use std::fmt;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use dynamodb_api::AttributeType;

use super::number::{Number, NumberError};

/// The longest partition key, in bytes.
pub const MAX_PARTITION_KEY: usize = 2048;
/// The longest sort key, in bytes.
pub const MAX_SORT_KEY: usize = 1024;

/// The value of a key attribute. Ordered as DynamoDB orders sort keys: strings by their UTF-8 bytes, numbers by
/// value, binary by unsigned bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A string.
    S(Box<str>),
    /// A number.
    N(Number),
    /// Bytes.
    B(Box<[u8]>),
}

/// Values are customers' data: only type and size are printed.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} bytes)", self.kind().as_str(), self.size())
    }
}

/// Why a text cannot be the value of a key. The text itself is not repeated: it may be personal data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Keys may not be empty.
    #[error("is empty: a key of type {} needs at least one byte", .0.as_str())]
    Empty(AttributeType),
    /// Longer than DynamoDB allows.
    #[error("is {size} bytes long, a key of this kind may have at most {limit}")]
    TooLong {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not a number.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// Not base64.
    #[error("is not base64, which is how keys of type B are written: {0}")]
    Base64(String),
}

impl Key {
    /// Parses what a user wrote as a key of type `kind` and at most `limit` bytes: text for S, decimal for N,
    /// standard base64 (with padding) for B.
    pub fn parse(kind: AttributeType, text: &str, limit: usize) -> Result<Self, KeyError> {
        let key = match kind {
            AttributeType::S => Self::S(text.into()),
            AttributeType::N if text.is_empty() => return Err(KeyError::Empty(kind)),
            AttributeType::N => Self::N(Number::parse(text)?),
            AttributeType::B => {
                let bytes = STANDARD
                    .decode(text)
                    .map_err(|error| KeyError::Base64(error.to_string()))?;
                Self::B(bytes.into())
            }
        };
        match key.size() {
            0 => Err(KeyError::Empty(kind)),
            size if size > limit && kind != AttributeType::N => Err(KeyError::TooLong { size, limit }),
            _ => Ok(key),
        }
    }

    /// Reads a key attribute that DynamoDB returned; `None` if it is of no type that a key can have.
    pub fn from_attribute(value: &AttributeValue) -> Option<Self> {
        match value {
            AttributeValue::S(text) => Some(Self::S(text.as_str().into())),
            AttributeValue::N(text) => Number::parse(text).ok().map(Self::N),
            AttributeValue::B(blob) => Some(Self::B(blob.as_ref().into())),
            _ => None,
        }
    }

    /// The value as a request carries it.
    pub fn to_attribute(&self) -> AttributeValue {
        match self {
            Self::S(text) => AttributeValue::S(text.to_string()),
            Self::N(number) => AttributeValue::N(number.as_str().to_owned()),
            Self::B(bytes) => AttributeValue::B(Blob::new(bytes.to_vec())),
        }
    }

    /// The type of the value.
    pub const fn kind(&self) -> AttributeType {
        match self {
            Self::S(_) => AttributeType::S,
            Self::N(_) => AttributeType::N,
            Self::B(_) => AttributeType::B,
        }
    }

    /// The value as held here: equal values of a type have equal bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::S(text) => text.as_bytes(),
            Self::N(number) => number.as_str().as_bytes(),
            Self::B(bytes) => bytes,
        }
    }

    /// Bytes of the value as held here.
    pub fn size(&self) -> usize {
        self.as_bytes().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: AttributeType, text: &str) -> Result<Key, KeyError> {
        Key::parse(kind, text, MAX_PARTITION_KEY)
    }

    #[test]
    fn a_value_is_coerced_to_the_type_of_the_table_s_key() {
        assert_eq!(parse(AttributeType::S, "007"), Ok(Key::S("007".into())));
        assert_eq!(parse(AttributeType::N, "007"), parse(AttributeType::N, "7.0"));
        assert_eq!(parse(AttributeType::B, "AAH/"), Ok(Key::B([0, 1, 255].into())));
    }

    #[test]
    fn values_that_can_be_no_key_are_refused() {
        for kind in [AttributeType::S, AttributeType::N, AttributeType::B] {
            assert_eq!(parse(kind, ""), Err(KeyError::Empty(kind)));
        }
        assert!(matches!(parse(AttributeType::B, "%%%"), Err(KeyError::Base64(_))));
        assert!(matches!(parse(AttributeType::B, "AAH"), Err(KeyError::Base64(_))));
        assert_eq!(
            parse(AttributeType::S, &"x".repeat(2049)),
            Err(KeyError::TooLong {
                size: 2049,
                limit: MAX_PARTITION_KEY
            })
        );
        assert!(parse(AttributeType::S, &"x".repeat(2048)).is_ok());
    }

    #[test]
    fn values_survive_the_way_to_dynamodb_and_back() {
        for (kind, text) in [
            (AttributeType::S, "häß\u{1F600}"),
            (AttributeType::N, "-1.50"),
            (AttributeType::B, "AAH/"),
        ] {
            let key = parse(kind, text).unwrap();
            assert_eq!(Key::from_attribute(&key.to_attribute()), Some(key));
        }
        assert_eq!(Key::from_attribute(&AttributeValue::Bool(true)), None);
    }

    #[test]
    fn debug_output_keeps_values_to_itself() {
        let shown = format!("{:?}", parse(AttributeType::S, "secret-tenant").unwrap());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
