#![no_main]
#[path = "../parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for target in parsers::TARGETS.iter().filter(|target| target.name == "bundle") {
        (target.run)(data);
    }
});
