//! Any bytes as a kernel command line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_bootinfo::CommandLine;

fuzz_target!(|bytes: &[u8]| {
    match CommandLine::parse(bytes) {
        Ok(line) => {
            for word in line.words() {
                // Some words may come several times; the first one counts.
                let first = line.words().find(|w| w.key == word.key);
                assert_eq!(line.value(word.key), first.map(|w| w.value));
                let _ = line.number::<u8>(word.key);
            }
            let _ = line.only(&["node", "level"]);
        }
        Err(error) => _ = error.to_string(),
    }
});
