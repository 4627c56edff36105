//! `sealfs STORE MOUNTPOINT`.

fn main() -> std::process::ExitCode {
    sealfs::daemon::main()
}
