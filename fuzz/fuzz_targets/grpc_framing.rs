//! gRPC's frames as a peer sends them, in pieces of any size. The first byte is the size of the pieces.
#![no_main]

use cocoon_grpc::{Decoder, PREFIX, parse};
use libfuzzer_sys::fuzz_target;
use protobuf::well_known_types::struct_::Struct;
use protobuf::well_known_types::type_::Type;

const LIMIT: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    let Some((size, stream)) = bytes.split_first() else { return };
    let (mut decoder, mut messages, mut taken) = (Decoder::new(LIMIT), Vec::new(), 0);
    'pieces: for piece in stream.chunks(usize::from(*size).max(1)) {
        decoder.push(piece);
        loop {
            match decoder.message() {
                Ok(Some(message)) => {
                    assert!(message.len() <= LIMIT);
                    taken += PREFIX + message.len();
                    messages.push(message);
                }
                Ok(None) => break,
                Err(_) => break 'pieces,
            }
        }
    }
    assert!(taken <= stream.len());
    // However the stream is cut, it holds the same messages.
    let (mut whole, mut again) = (Decoder::new(LIMIT), Vec::new());
    whole.push(stream);
    while let Ok(Some(message)) = whole.message() {
        again.push(message);
    }
    assert_eq!(again, messages);
    for message in &messages {
        let _ = parse::<Struct>(message);
        let _ = parse::<Type>(message);
    }
});
