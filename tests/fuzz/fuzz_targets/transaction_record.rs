#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidegate::fuzz::run("transaction_record", input));
