//! Memory that several CPUs use at once: the values of the kernel side's maps.
//!
//! The rule for all programs: **nothing in a map is ever borrowed as `&mut`**, because another CPU, or a program in a softirq above
//! this one, may read and write the same value meanwhile. A value of a map is reached by `&`, and every member of it is a [`Shared`]
//! cell. Two kinds of memory are exempt: per-CPU values that one program alone uses, and values that are not in a map yet.
//!
//! A cell is read and written whole if it is a word. What belongs together is no unit: a reader may see one member of before and
//! one of after. Where that matters, the code beside it says why it does not hurt. A cell that several CPUs add to counts exactly only
//! through the atomic addition of the programs (`tracer_ebpf::maps::add`).

use core::{cell::UnsafeCell, fmt};

/// A member of a value that several CPUs use at once.
#[repr(transparent)]
pub struct Shared<T>(UnsafeCell<T>);

// SAFETY: only copies go in and out, by volatile accesses, as the kernel's `READ_ONCE` and `WRITE_ONCE` do it.
unsafe impl<T: Copy + Send> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// A cell that holds `value`.
    #[inline(always)]
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// What it holds now.
    #[inline(always)]
    #[must_use]
    pub fn get(&self) -> T {
        if const { size_of::<T>() == align_of::<T>() } {
            self.reread()
        } else {
            // What is no word cannot be read whole, and a volatile copy would lie on the stack.
            // SAFETY: valid and aligned, as a cell always is.
            unsafe { self.0.get().read() }
        }
    }

    /// What it holds now, whatever was read before.
    #[inline(always)]
    #[must_use]
    pub fn reread(&self) -> T {
        // SAFETY: valid and aligned, as a cell always is. Volatile, because another CPU may write it meanwhile.
        unsafe { self.0.get().read_volatile() }
    }

    /// Lets it hold `value`. What is set one after the other is written in that order.
    #[inline(always)]
    pub fn set(&self, value: T) {
        // SAFETY: as in `reread`.
        unsafe { self.0.get().write_volatile(value) }
    }

    /// Where it is, for an atomic addition.
    #[inline(always)]
    #[must_use]
    pub const fn as_ptr(&self) -> *mut T {
        self.0.get()
    }
}

impl<T: Copy + core::ops::Add<Output = T>> Shared<T> {
    /// Adds `number`. Another CPU's addition at the same moment may be lost.
    #[inline(always)]
    pub fn add(&self, number: T) {
        self.set(self.get() + number);
    }
}

/// A set of bits.
impl Shared<u32> {
    /// Whether one of these bits is set.
    #[inline(always)]
    #[must_use]
    pub fn has(&self, bits: u32) -> bool {
        self.get() & bits != 0
    }

    /// Sets these bits.
    #[inline(always)]
    pub fn insert(&self, bits: u32) {
        self.set(self.get() | bits);
    }

    /// Clears these bits.
    #[inline(always)]
    pub fn remove(&self, bits: u32) {
        self.set(self.get() & !bits);
    }
}

impl<T: Copy + Default> Default for Shared<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: Copy + fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(formatter)
    }
}

/// A type without padding that stands in a map as another type of the same layout, made of cells.
///
/// # Safety
///
/// The layouts are the same.
pub unsafe trait Plain: Copy {
    /// The same, made of cells.
    type Shared;
}

// SAFETY: a cell is transparent.
unsafe impl Plain for u64 {
    type Shared = Shared<Self>;
}

/// Declares the type that stands in maps for a plain type: the same members, in the same order, as cells.
macro_rules! shared {
    ($($(#[$doc:meta])* $name:ident of $plain:ident { $($member:ident: $cell:ty,)+ })+) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Default)]
        #[expect(missing_docs, reason = "the members are those of the plain type")]
        pub struct $name { $(pub $member: $cell,)+ }

        const _: () = assert!(
            size_of::<$name>() == size_of::<$plain>()
                && align_of::<$name>() == align_of::<$plain>()
                $(&& core::mem::offset_of!($name, $member) == core::mem::offset_of!($plain, $member))+
        );

        // SAFETY: the layout is asserted above.
        unsafe impl $crate::shared::Plain for $plain {
            type Shared = $name;
        }

        impl $name {
            /// All of it.
            #[inline(always)]
            #[must_use]
            pub const fn get(&self) -> $plain {
                // SAFETY: the layout is the same, and cells may be read through a pointer.
                unsafe { core::ptr::from_ref(self).cast::<$plain>().read() }
            }

            /// Writes all of it.
            #[inline(always)]
            pub const fn set(&self, value: $plain) {
                // SAFETY: the layout is the same, and every member is a cell, which may be written through `&`.
                unsafe { core::ptr::from_ref(self).cast::<$plain>().cast_mut().write(value) }
            }
        }
    )+};
}
pub(crate) use shared;
