//! Declarations: a type, its keys, their defaults and their documentation, written once.
//!
//! `record!` makes a struct that reads itself from an object, says its shape and writes itself. A field without default
//! is required, unless its type has a value for being left out (`Option`). `as "name"` is for keys that are no Rust
//! names, `[read, shape]` for values whose reading needs to know where they stand. A doc line ``Example: `...` `` is a
//! value as JSON. `in more forms` leaves `Decode` to the type itself. `words!` makes an enum that reads itself from a
//! string.

/// Declares an object of the format.
macro_rules! record {
    (
        $(#[doc = $record_doc:literal])*
        $vis:vis struct $name:ident $(in $more:ident forms)? {
            $(
                $(#[doc = $doc:literal])+
                $field:ident $(as $key:literal)? : $ty:ty $([$read:path, $shape:path])? $(= $default:expr)?
            ),+ $(,)?
        }
    ) => {
        $(#[doc = $record_doc])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $doc])+ $vis $field: $ty, )+
        }

        impl $crate::decode::Record for $name {
            const NAME: &'static str = stringify!($name);

            const KEYS: &'static [&'static str] =
                &[$( $crate::decode::record!(@key $field $($key)?) ),+];

            fn record_shape() -> $crate::decode::RecordShape {
                $crate::decode::RecordShape {
                    name: Self::NAME.to_owned(),
                    doc: $crate::decode::Doc::of(&[$($record_doc),*]),
                    fields: vec![$(
                        $crate::decode::Field {
                            key: $crate::decode::record!(@key $field $($key)?),
                            doc: $crate::decode::Doc::of(&[$($doc),+]),
                            shape: $crate::decode::record!(@shape $ty $(, $shape)?),
                            is_required: $crate::decode::record!(@required $ty $(, $default)?),
                            is_nullable: $crate::decode::record!(@nullable $ty $(, $shape)?),
                            default: $crate::decode::record!(@default $ty $(, $default)?),
                        }
                    ),+],
                }
            }

            fn decode_record(
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

        impl $crate::decode::Render for $name {
            fn render(&self) -> $crate::json::Json {
                $crate::json::Json::object([$(
                    (
                        $crate::decode::record!(@key $field $($key)?),
                        $crate::decode::Render::render(&self.$field),
                    )
                ),+])
            }
        }

        $crate::decode::record!(@decode $name $($more)?);
    };
    (@decode $name:ident more) => {};
    (@decode $name:ident) => {
        impl $crate::decode::Decode for $name {
            const EXPECTED: &'static str = "an object";

            fn decode(
                node: &$crate::tree::Node<'_>,
                report: &mut $crate::decode::Report,
            ) -> Option<Self> {
                <Self as $crate::decode::Record>::decode_record(node, report)
            }

            fn shape() -> $crate::decode::Shape {
                <Self as $crate::decode::Record>::object_shape()
            }
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (@shape $ty:ty) => { <$ty as $crate::decode::Decode>::shape() };
    (@shape $ty:ty, $shape:path) => { $shape() };
    (@required $ty:ty) => { <$ty as $crate::decode::Decode>::absent().is_none() };
    (@required $ty:ty, $default:expr) => { false };
    (@nullable $ty:ty) => { <$ty as $crate::decode::Decode>::NULL_IS_ABSENT };
    (@nullable $ty:ty, $shape:path) => { true };
    (@default $ty:ty) => { None };
    (@default $ty:ty, $default:expr) => {
        Some(<$ty as $crate::decode::Render>::render(&$default))
    };
    (@take $fields:ident, $report:ident, $key:expr) => { $fields.take($key, $report) };
    (@take $fields:ident, $report:ident, $key:expr, $default:expr) => {
        $fields.take_or_default($key, || $default, $report)
    };
    (@take $fields:ident, $report:ident, $key:expr, [$read:path], $default:expr) => {
        $fields.take_or($key, $read, || $default, $report)
    };
}

/// Declares a choice of words.
macro_rules! words {
    (
        $(#[doc = $choice_doc:literal])*
        $vis:vis enum $name:ident : $expected:literal {
            $( $(#[doc = $doc:literal])+ $variant:ident = $word:literal ),+ $(,)?
        }
    ) => {
        $(#[doc = $choice_doc])*
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

        words! {
            of $name: $expected {
                $( $(#[doc = $doc])+ $variant ),+
            }
        }
    };
    // Of a type that is there, whose `as_str` has the words.
    (
        of $name:ident : $expected:literal {
            $( $(#[doc = $doc:literal])+ $variant:ident ),+ $(,)?
        }
    ) => {
        impl $crate::decode::Word for $name {
            const ALL: &'static [Self] = &[$( Self::$variant ),+];

            fn word(self) -> &'static str {
                self.as_str()
            }

            fn words_shape() -> $crate::decode::Shape {
                $crate::decode::Shape::Words(vec![
                    $( (
                        Self::$variant.as_str(),
                        $crate::decode::Doc::of(&[$($doc),+]).text,
                    ) ),+
                ])
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

            fn shape() -> $crate::decode::Shape {
                <Self as $crate::decode::Word>::words_shape()
            }
        }

        impl $crate::decode::Render for $name {
            fn render(&self) -> $crate::json::Json {
                $crate::json::Json::text(self.as_str())
            }
        }
    };
}

pub(crate) use {record, words};
