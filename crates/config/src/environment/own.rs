//! The variables that always stay this machine's: what finds programs, libraries and directories here.

/// Names of the target's variables that no rule takes along: the target's paths mean nothing on this machine.
///
/// All names that mirrord leaves out, and four more, in the last two groups.
pub const OWN_VARIABLES: [&str; 46] = [
    // Where programs are found, and what they take for home and temporary.
    "PATH",
    "HOME",
    "HOMEPATH",
    "PWD",
    "TEMP",
    "TMP",
    "TMPDIR",
    // Java.
    "CATALINA_HOME",
    "CLASSPATH",
    "JAVA_EXE",
    "JAVA_HOME",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    // .NET, Go, Python.
    "DOTNET_EnableDiagnostics",
    "DOTNET_STARTUP_HOOKS",
    "GOPATH",
    "GOMODCACHE",
    "PYTHONPATH",
    // Ruby.
    "BUNDLER_ORIG_BUNDLER_ORIG_MANPATH",
    "BUNDLER_ORIG_BUNDLER_VERSION",
    "BUNDLER_ORIG_BUNDLE_BIN_PATH",
    "BUNDLER_ORIG_BUNDLE_GEMFILE",
    "BUNDLER_ORIG_GEM_HOME",
    "BUNDLER_ORIG_MANPATH",
    "BUNDLER_ORIG_PATH",
    "BUNDLER_ORIG_RB_USER_INSTALL",
    "BUNDLER_ORIG_RUBYLIB",
    "BUNDLER_ORIG_RUBYOPT",
    "BUNDLER_VERSION",
    "BUNDLE_APP_CONFIG",
    "BUNDLE_BIN_PATH",
    "BUNDLE_FORCE_RUBY_PLATFORM",
    "BUNDLE_GEMFILE",
    "BUNDLE_GEM_PATH",
    "BUNDLE_PATH",
    "BUNDLE_WITHOUT",
    "GEM_HOME",
    "GEM_PATH",
    "RUBYLIB",
    "RUBYOPT",
    // What is logged, which the person at the terminal decides.
    "RUST_LOG",
    "MIRRORD_LOG",
    // What the dynamic loader takes from the target would break or replace programs here.
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    // Not the target's but its shell's.
    "OLDPWD",
    "SHLVL",
];

/// Whether `name` is one of them.
pub(super) fn is_own(name: &str) -> bool {
    OWN_VARIABLES.contains(&name)
}
