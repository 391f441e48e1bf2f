//! Starting programs: file actions that open device files, and, for `xdma run --explain`, programs that will run without this
//! library.

use crate::open::{device, open_device};
use crate::{errno, explain, real};
use libc::{c_char, c_int, c_void, mode_t, pid_t};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use xdma_chardev::has_interpreter;

/// Number of bytes read from the start of a program, which contains its headers.
const HEADERS: u64 = 4096;

/// Device files that were opened for file actions: the address of the actions, and the file descriptor.
static OPENED: Mutex<Vec<(usize, c_int)>> = Mutex::new(vec![]);

/// Adds an action that opens a file in the new program. A device file is opened here, and the action duplicates it.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_spawn_file_actions_addopen(
    actions: *mut c_void,
    fd: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: the caller's contract is that of the C library's function.
    unsafe {
        let Some((card, node)) = device(libc::AT_FDCWD, path) else {
            return real::posix_spawn_file_actions_addopen(actions, fd, path, flags, mode);
        };
        let opened = open_device(card, node, flags | libc::O_CLOEXEC);
        if opened < 0 {
            return errno::get();
        }
        OPENED.lock().unwrap_or_else(PoisonError::into_inner).push((actions.addr(), opened));
        real::posix_spawn_file_actions_adddup2(actions, opened, fd)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_spawn_file_actions_destroy(actions: *mut c_void) -> c_int {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let all = std::mem::take(&mut *opened);
    let (these, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(of, _)| *of == actions.addr());
    *opened = others;
    drop(opened);
    // SAFETY: the file descriptors belong to this library, and the caller's contract is as above.
    unsafe {
        for (_, fd) in these {
            close(fd);
        }
        real::posix_spawn_file_actions_destroy(actions)
    }
}

unsafe extern "C" {
    /// The replacement in this library.
    fn close(fd: c_int) -> c_int;
    static environ: *const *const c_char;
}

/// Reports a program that will run without this library.
///
/// # Safety
///
/// `path` must be null or point to a C string, and `environment` must be null or point to the strings of an environment.
unsafe fn check_program(path: *const c_char, environment: *const *const c_char) {
    if !explain::is_enabled() || path.is_null() {
        return;
    }
    // SAFETY: the caller's contract.
    if !unsafe { preloads(environment) } {
        // SAFETY: as above.
        let path = unsafe { CStr::from_ptr(path) }.to_string_lossy();
        explain::remark(&format!(
            "{} started {path} in an environment whose LD_PRELOAD lacks this library: its calls are not intercepted",
            explain::program()
        ));
        return;
    }
    // SAFETY: the path is a C string.
    let path = Path::new(std::ffi::OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    // Without a slash, the name is searched for in several directories.
    if path.as_os_str().as_bytes().contains(&b'/') && is_static(path) {
        explain::remark(&format!(
            "{} started {}, which is statically linked: its calls are not intercepted",
            explain::program(),
            path.display()
        ));
    }
}

/// Returns whether a program with this environment loads this library.
///
/// # Safety
///
/// As for [`check_program`].
unsafe fn preloads(mut environment: *const *const c_char) -> bool {
    // SAFETY: the caller's contract. The last pointer of an environment is null.
    unsafe {
        while let Some(variable) = environment.as_ref().filter(|variable| !variable.is_null()) {
            let text = CStr::from_ptr(*variable).to_bytes();
            if let Some(value) = text.strip_prefix(b"LD_PRELOAD=") {
                let library = explain::library().map(CStr::to_bytes).unwrap_or_default();
                return value.split(|byte| b" :".contains(byte)).any(|path| path == library);
            }
            environment = environment.add(1);
        }
    }
    false
}

/// Returns whether a file is an ELF program that names no dynamic linker.
fn is_static(path: &Path) -> bool {
    let mut start = vec![];
    let read = File::open(path).and_then(|file| file.take(HEADERS).read_to_end(&mut start));
    read.is_ok() && start.starts_with(b"\x7fELF") && !has_interpreter(&start)
}

/// The registers that pass the first arguments of a function.
type Registers = [*const c_char; 6];

/// Returns the argument with the number `at` of a function with a variable number of arguments, all of which are pointers.
///
/// # Safety
///
/// The pointers are those of `variadic`, and the function has that many arguments.
unsafe fn argument(registers: &Registers, stack: *const *const c_char, at: usize) -> *const c_char {
    match registers.get(at) {
        Some(argument) => *argument,
        // SAFETY: the caller's contract.
        None => unsafe { *stack.add(at - registers.len()) },
    }
}

/// Defines functions with a variable number of arguments, the first of which is the path of a program to start. Rust cannot
/// define them itself. Each passes its arguments to a function, which returns the address of the C library's function, and then
/// jumps there.
macro_rules! variadic {
    ($($name:ident, $check:ident, $environment:expr;)*) => {$(
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            std::arch::naked_asm!(
                "lea rax, [rsp + 8]",
                "push r9", "push r8", "push rcx", "push rdx", "push rsi", "push rdi",
                "mov rdi, rsp",
                "mov rsi, rax",
                "sub rsp, 8",
                "call {}",
                "add rsp, 8",
                "pop rdi", "pop rsi", "pop rdx", "pop rcx", "pop r8", "pop r9",
                "jmp rax",
                sym $check,
            )
        }

        unsafe extern "C" fn $check(registers: &Registers, stack: *const *const c_char) -> *mut c_void {
            static REAL: real::Real = real::Real::new(match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => panic!("a function name contains no NUL byte"),
            });
            let environment: unsafe fn(&Registers, *const *const c_char) -> *const *const c_char = $environment;
            // SAFETY: the caller's contract is that of the C library's function.
            unsafe { check_program(registers[0], environment(registers, stack)) };
            REAL.address()
        }
    )*};
}

variadic! {
    // SAFETY: the C library defines the variable.
    execl, check_execl, |_, _| unsafe { environ };
    // SAFETY: as above.
    execlp, check_execlp, |_, _| unsafe { environ };
    execle, check_execle, |registers, stack| {
        // SAFETY: the arguments end with a null pointer, and the environment follows.
        let mut ends = (1..).filter(|at| unsafe { argument(registers, stack, *at) }.is_null());
        // SAFETY: as above.
        ends.next().map_or(std::ptr::null(), |end| unsafe { argument(registers, stack, end + 1) }.cast())
    };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fexecve(
    fd: c_int,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> c_int {
    let link =
        explain::is_enabled().then(|| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()).flatten();
    let path = link.and_then(|path| CString::new(path.into_os_string().into_encoded_bytes()).ok());
    // SAFETY: the caller's contract is that of the C library's function.
    unsafe {
        check_program(path.as_deref().map_or(std::ptr::null(), CStr::as_ptr), environment);
        real::fexecve(fd, arguments, environment)
    }
}

/// Defines functions that start a program.
macro_rules! starts {
    ($($name:ident, $path:ident, $environment:expr, ($($argument:ident: $type:ty),*);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            // SAFETY: the caller's contract is that of the C library's function.
            unsafe {
                check_program($path, $environment);
                real::$name($($argument),*)
            }
        }
    )*};
}

starts! {
    execve, path, environment, (path: *const c_char, arguments: *const *const c_char, environment: *const *const c_char);
    execv, path, environ, (path: *const c_char, arguments: *const *const c_char);
    execvp, path, environ, (path: *const c_char, arguments: *const *const c_char);
    execvpe, path, environment, (path: *const c_char, arguments: *const *const c_char, environment: *const *const c_char);
    posix_spawn, path, environment, (process: *mut pid_t, path: *const c_char, actions: *const c_void, attributes: *const c_void,
        arguments: *const *const c_char, environment: *const *const c_char);
    posix_spawnp, path, environment, (process: *mut pid_t, path: *const c_char, actions: *const c_void, attributes: *const c_void,
        arguments: *const *const c_char, environment: *const *const c_char);
}
