//! Any payload as a message of the membership manager: an error, or a message that encodes to one that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_membership::message::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Message::decode(bytes) {
        if let Message::View(view) = &message {
            let _ = view.view();
        }
        let mut buffer = [0; 2048];
        if let Ok(encoded) = message.encode(&mut buffer) {
            assert_eq!(Message::decode(encoded).as_ref(), Ok(&message));
        }
    }
});
