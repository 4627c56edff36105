//! The administrator's command.

fn main() -> std::process::ExitCode {
    sealfs::cli::main()
}
