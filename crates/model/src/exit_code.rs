//! The exit codes of `bough`, as scripts rely on them. A child's own code passes through unchanged.

/// How a command of ours ended, when it was not the child's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Success = 0,
    /// An internal failure, or no such object.
    Internal = 1,
    /// The configuration file or the command line is wrong.
    Usage = 2,
    /// The context or the target cannot be used.
    Target = 3,
    /// A branch cannot be had, or a connection was refused under `--assert-isolated`.
    Branch = 4,
    /// The child's program was found but could not be executed (POSIX shell, 2.8.2).
    NotExecutable = 126,
    /// The child's program was not found (POSIX shell, 2.8.2).
    NotFound = 127,
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> Self {
        code as Self
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(u8::from(code))
    }
}
