//! penlog: see the library for what it does.

fn main() -> std::process::ExitCode {
    penlog::main()
}
