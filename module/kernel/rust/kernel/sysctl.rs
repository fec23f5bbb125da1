// SPDX-License-Identifier: GPL-2.0

//! Files below `/proc/sys`.
//!
//! C header: [`include/linux/sysctl.h`](srctree/include/linux/sysctl.h)

use crate::{
    error::from_result,
    ffi::{c_int, c_void},
    prelude::*,
    str::CStr,
    sync::Arc,
};
use core::{fmt, marker::PhantomData, ptr::NonNull};

/// The longest text of a file in bytes, its newline included.
pub const MAX_TEXT: usize = 256;

/// The text of a file while it is being read: a [`fmt::Write`] that fails when it is full.
///
/// # Examples
///
/// ```
/// use core::fmt::Write;
/// use kernel::sysctl::Text;
///
/// let mut buffer = [0; 4];
/// let mut text = Text::new(&mut buffer);
/// write!(text, "{}", 12)?;
/// assert!(write!(text, "345").is_err());
/// assert_eq!(text.as_bytes(), b"12");
/// # Ok::<(), Error>(())
/// ```
pub struct Text<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Text<'a> {
    /// Creates an empty text that is kept in `buffer`.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// Returns what was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or(&[])
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = self.len.checked_add(part.len()).ok_or(fmt::Error)?;
        let room = self.buffer.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// A file of a [`Directory`].
pub struct File<T> {
    name: &'static CStr,
    show: fn(&T, &mut Text<'_>) -> Result,
    store: Option<fn(&T, &[u8]) -> Result>,
}

impl<T> File<T> {
    /// A file of mode 0444. `show` writes its text, without a newline at the end.
    pub const fn read_only(name: &'static CStr, show: fn(&T, &mut Text<'_>) -> Result) -> Self {
        Self {
            name,
            show,
            store: None,
        }
    }

    /// A file of mode 0644. `store` gets what was written, as it was written.
    ///
    /// A write needs `CAP_SYS_ADMIN`. One that does not start at the beginning of the file is
    /// refused with `EINVAL`, so `store` never sees the middle of a value.
    pub const fn read_write(
        name: &'static CStr,
        show: fn(&T, &mut Text<'_>) -> Result,
        store: fn(&T, &[u8]) -> Result,
    ) -> Self {
        Self {
            name,
            show,
            store: Some(store),
        }
    }

    fn mode(&self) -> bindings::umode_t {
        if self.store.is_some() {
            0o644
        } else {
            0o444
        }
    }
}

/// The files of one directory, and what they show and change.
pub trait Directory: Send + Sync + Sized + 'static {
    /// The directory below `/proc/sys`, such as `kernel/random`.
    const PATH: &'static CStr;

    /// Its files.
    const FILES: &'static [File<Self>];
}

/// A directory that is registered for as long as this lives.
///
/// Dropping it waits for reads and writes that are under way, and later ones fail.
///
/// # Invariants
///
/// `header` is the registration of `_table`, whose entries point to `_directory` and to
/// `T::FILES`.
///
/// # Examples
///
/// ```
/// use core::fmt::Write;
/// use core::sync::atomic::{AtomicBool, Ordering};
/// use kernel::c_str;
/// use kernel::str::CStr;
/// use kernel::sync::Arc;
/// use kernel::sysctl::{Directory, File, Registration};
///
/// struct Switch(AtomicBool);
///
/// impl Directory for Switch {
///     const PATH: &'static CStr = c_str!("rust_doctest");
///     const FILES: &'static [File<Self>] = &[File::read_write(
///         c_str!("switch"),
///         |this, text| Ok(write!(text, "{}", u8::from(this.0.load(Ordering::Relaxed)))?),
///         |this, bytes| {
///             let on = match bytes {
///                 b"0" | b"0\n" => false,
///                 b"1" | b"1\n" => true,
///                 _ => return Err(EINVAL),
///             };
///             this.0.store(on, Ordering::Relaxed);
///             Ok(())
///         },
///     )];
/// }
///
/// let switch = Arc::new(Switch(AtomicBool::new(false)), GFP_KERNEL)?;
/// let registration = Registration::new(switch.clone())?;
/// drop(registration);
///
/// // It can be registered again, so it was really gone.
/// drop(Registration::new(switch)?);
/// # Ok::<(), Error>(())
/// ```
pub struct Registration<T: Directory> {
    header: NonNull<bindings::ctl_table_header>,
    /// Only kept alive: the header refers to it.
    _table: KVec<bindings::ctl_table>,
    /// Only kept alive: the table refers to it.
    _directory: Arc<T>,
}

// SAFETY: The C side orders all access to header and table, and `T` may be sent and shared.
unsafe impl<T: Directory> Send for Registration<T> {}
// SAFETY: As above; a shared reference allows nothing.
unsafe impl<T: Directory> Sync for Registration<T> {}

impl<T: Directory> Registration<T> {
    /// Registers the files of `directory`.
    pub fn new(directory: Arc<T>) -> Result<Self> {
        let mut table = KVec::with_capacity(T::FILES.len(), GFP_KERNEL)?;
        for file in T::FILES {
            table.push(entry(&*directory, file), GFP_KERNEL)?;
        }
        // SAFETY: Path, names, files and handler are static. Table and directory are kept until
        // the header is unregistered in `drop`.
        let header = unsafe {
            bindings::register_sysctl_sz(T::PATH.as_char_ptr(), table.as_mut_ptr(), table.len())
        };
        // INVARIANT: `header` is the registration of `table`, made by `entry` for `directory`.
        Ok(Self {
            header: NonNull::new(header).ok_or(ENOMEM)?,
            _table: table,
            _directory: directory,
        })
    }
}

impl<T: Directory> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant `header` is a registration, and it ends only here. The
        // function waits for running handlers, so nothing uses table or directory afterwards.
        unsafe { bindings::unregister_sysctl_table(self.header.as_ptr()) };
    }
}

/// The C table entry of a file.
fn entry<T: Directory>(directory: &T, file: &'static File<T>) -> bindings::ctl_table {
    bindings::ctl_table {
        procname: file.name.as_char_ptr(),
        data: core::ptr::from_ref(directory).cast_mut().cast(),
        mode: file.mode(),
        proc_handler: Some(Handler::<T>::handle),
        extra1: core::ptr::from_ref(file).cast_mut().cast(),
        ..Default::default()
    }
}

/// The C handler of all files of a directory.
struct Handler<T>(PhantomData<T>);

impl<T: Directory> Handler<T> {
    /// The `proc_handler` of a file.
    ///
    /// # Safety
    ///
    /// `table` must be an [`entry`] whose directory is alive. `len` and `pos` must be valid for
    /// reads and writes, and `buffer` for `*len` bytes; nobody else may use them.
    unsafe extern "C" fn handle(
        table: *const bindings::ctl_table,
        write: c_int,
        buffer: *mut c_void,
        len: *mut usize,
        pos: *mut bindings::loff_t,
    ) -> c_int {
        // SAFETY: By the safety requirements, these are what `entry` made them from.
        let (directory, file) = unsafe {
            (
                &*(*table).data.cast_const().cast::<T>(),
                &*(*table).extra1.cast_const().cast::<File<T>>(),
            )
        };
        // SAFETY: By the safety requirements.
        let (len, pos) = unsafe { (&mut *len, &mut *pos) };
        // SAFETY: By the safety requirements. On a read the bytes are written before they are read
        // by anybody; a `u8` has no invalid values, and `kvzalloc` has filled them.
        let bytes = unsafe { core::slice::from_raw_parts_mut(buffer.cast::<u8>(), *len) };

        from_result(|| {
            if write == 0 {
                *len = read(directory, file, bytes, *pos)?;
            } else {
                store(directory, file, bytes, *pos)?;
            }
            *pos = pos.saturating_add(*len as bindings::loff_t);
            Ok(0)
        })
    }
}

/// Copies the file's text from `pos` on to `bytes`, and returns how much it was.
fn read<T: Directory>(
    directory: &T,
    file: &File<T>,
    bytes: &mut [u8],
    pos: bindings::loff_t,
) -> Result<usize> {
    let mut buffer = [0; MAX_TEXT];
    let mut text = Text::new(&mut buffer);
    (file.show)(directory, &mut text)?;
    fmt::Write::write_str(&mut text, "\n")?;

    let start = usize::try_from(pos).map_err(|_| EINVAL)?;
    let rest = text.as_bytes().get(start..).unwrap_or(&[]);
    let count = rest.len().min(bytes.len());
    if let (Some(to), Some(from)) = (bytes.get_mut(..count), rest.get(..count)) {
        to.copy_from_slice(from);
    }
    Ok(count)
}

/// Hands what was written to the file.
fn store<T: Directory>(
    directory: &T,
    file: &File<T>,
    bytes: &[u8],
    pos: bindings::loff_t,
) -> Result {
    let store = file.store.ok_or(EPERM)?;
    // SAFETY: The helper only looks at the current task, and this runs on behalf of one.
    if !unsafe { bindings::sysctl_write_allowed() } {
        return Err(EPERM);
    }
    if pos != 0 {
        return Err(EINVAL);
    }
    store(directory, bytes)
}
