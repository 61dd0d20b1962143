//! Declarations: a type, its keys, their defaults and their documentation, written once.
//!
//! `record!` makes a struct that reads itself from an object. A field without default is required, unless its type has
//! a value for being left out (`Option`). `as "name"` is for keys that are no Rust names, `[function]` for values that
//! have more forms than their type. `words!` makes an enum that reads itself from a string.

/// Declares an object of the format.
macro_rules! record {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident $(as $key:literal)? : $ty:ty $([$read:path])? $(= $default:expr)?
            ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $doc])+ $vis $field: $ty, )+
        }

        impl $crate::decode::Record for $name {
            const KEYS: &'static [&'static str] =
                &[$( $crate::decode::record!(@key $field $($key)?) ),+];
        }

        impl $crate::decode::Decode for $name {
            const EXPECTED: &'static str = "an object";

            fn decode(
                node: &$crate::tree::Node<'_>,
                report: &mut $crate::decode::Report,
            ) -> Option<Self> {
                let fields = $crate::decode::Fields::open::<Self>(node, report)?;
                $(
                    let $field: Option<$ty> = $crate::decode::record!(
                        @take fields, report, $crate::decode::record!(@key $field $($key)?)
                        $(, [$read])? $(, $default)?
                    );
                )+
                Some(Self { $( $field: $field?, )+ })
            }
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (@take $fields:ident, $report:ident, $key:expr) => { $fields.take($key, $report) };
    (@take $fields:ident, $report:ident, $key:expr, $default:expr) => {
        $fields.take_or($key, $crate::decode::Decode::decode, || $default, $report)
    };
    (@take $fields:ident, $report:ident, $key:expr, [$read:path], $default:expr) => {
        $fields.take_or($key, $read, || $default, $report)
    };
}

/// Declares a choice of words.
macro_rules! words {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident : $expected:literal {
            $( $(#[doc = $doc:literal])+ $variant:ident = $word:literal ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name {
            $( $(#[doc = $doc])+ $variant, )+
        }

        impl $name {
            /// The word in the file.
            $vis fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }

        impl $crate::decode::Word for $name {
            const ALL: &'static [Self] = &[$( Self::$variant ),+];

            fn word(self) -> &'static str {
                self.as_str()
            }
        }

        impl $crate::decode::Decode for $name {
            const EXPECTED: &'static str = $expected;

            fn decode(
                node: &$crate::tree::Node<'_>,
                report: &mut $crate::decode::Report,
            ) -> Option<Self> {
                <Self as $crate::decode::Word>::decode_word(node, $expected, report)
            }
        }
    };
}

pub(crate) use {record, words};
