//! The two macros by which numbers and page layouts are written once and exist twice: as Rust items,
//! and as data from which `abi_gen.py` is printed.

/// One constant of the ABI: name and value.
pub type Constant = (&'static str, u64);

/// One field of a page structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name in the specification; Rust keywords carry `r#`.
    pub name: &'static str,
    /// Offset in bytes from the start of the structure.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
    /// The type as `ctypes` spells it.
    pub ctype: fn() -> String,
}

/// One structure on a shared page; packed by construction, little endian.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Name in the specification.
    pub name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// Fields in order of offset, without gaps.
    pub fields: &'static [Field],
}

/// A type that may be a field of a page structure: every bit pattern is a value of it.
pub trait FieldType {
    /// The type as `ctypes` spells it.
    fn ctype() -> String;
}

macro_rules! integer_field {
    ($($integer:ty => $ctype:literal,)*) => {$(
        impl FieldType for $integer {
            fn ctype() -> String {
                $ctype.to_owned()
            }
        }
    )*};
}

integer_field! {
    u8 => "ctypes.c_uint8",
    u32 => "ctypes.c_uint32",
    i32 => "ctypes.c_int32",
    u64 => "ctypes.c_uint64",
}

impl<T: FieldType, const N: usize> FieldType for [T; N] {
    fn ctype() -> String {
        format!("{} * {N}", T::ctype())
    }
}

/// Defines `pub const`s of type `u64`, and `TABLE` with one row for each.
macro_rules! constants {
    ($( $(#[$meta:meta])* $name:ident = $value:expr; )*) => {
        $( $(#[$meta])* pub const $name: u64 = $value; )*

        /// The constants of this module as data, in order.
        pub const TABLE: &[$crate::abi::define::Constant] = &[ $( (stringify!($name), $name), )* ];
    };
}

/// Defines page structures with every offset and size checked, and `LAYOUTS` with one row for each.
macro_rules! layouts {
    ($(
        $(#[$meta:meta])*
        $name:ident, size $size:literal {
            $( $(#[$field_meta:meta])* $offset:literal $field:ident: $type:ty, )*
        }
    )*) => {
        $(
            $(#[$meta])*
            #[allow(non_camel_case_types, reason = "the name is the specification's")]
            #[repr(C)]
            #[derive(
                Clone,
                Copy,
                Debug,
                zerocopy::FromBytes,
                zerocopy::IntoBytes,
                zerocopy::Immutable,
                zerocopy::KnownLayout,
            )]
            pub struct $name {
                $( $(#[$field_meta])* pub $field: $type, )*
            }

            const _: () = {
                assert!(size_of::<$name>() == $size);
                $( assert!(std::mem::offset_of!($name, $field) == $offset); )*
            };

            impl $crate::abi::define::FieldType for $name {
                fn ctype() -> String {
                    stringify!($name).to_owned()
                }
            }
        )*

        /// The structures of this module as data, in order.
        pub const LAYOUTS: &[$crate::abi::define::Layout] = &[ $(
            $crate::abi::define::Layout {
                name: stringify!($name),
                size: $size,
                fields: &[ $(
                    $crate::abi::define::Field {
                        name: stringify!($field),
                        offset: $offset,
                        size: size_of::<$type>(),
                        ctype: <$type as $crate::abi::define::FieldType>::ctype,
                    },
                )* ],
            },
        )* ];
    };
}

pub(crate) use {constants, layouts};
