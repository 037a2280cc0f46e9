use proptest::prelude::*;

use super::*;
use crate::testing::entry;
use crate::{Kind, Outcome};

fn items(numbers: std::ops::Range<u64>) -> Vec<Item> {
    let bytes = numbers.map(|number| entry(number).to_bytes().unwrap());
    bytes.map(|bytes| Item { leaf: Hash::of_leaf(&bytes), bytes }).collect()
}

fn put(file: &mut [u8], at: u64, bytes: &[u8]) {
    file[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
}

/// A generation written into `file`: its base, the records' ends, and the entries.
fn write(file: &mut [u8], number: u64, base: &Head, records: &[u64]) -> (Vec<usize>, Vec<Item>) {
    let (header, mut previous) = encode_header(number, file.len() as u64, &[number as u8; 16], base);
    put(file, slot(number), &header);
    let (mut offset, mut next) = (DATA as u64, base.frontier.size);
    let (mut ends, mut all, mut buffer) = (vec![], vec![], vec![]);
    for (sequence, count) in (0..).zip(records) {
        let batch = items(next..next + count);
        previous = encode_record(&mut buffer, number, sequence, next, &previous, &batch).unwrap();
        put(file, offset, &buffer);
        ends.push(offset as usize + buffer.len());
        offset = after(offset, buffer.len());
        next += count;
        all.extend(batch);
    }
    (ends, all)
}

fn sample() -> (Vec<u8>, Vec<usize>, Vec<Item>) {
    let mut file = vec![0; DATA + 4096];
    let base = Head::new().unwrap();
    write(&mut file, 1, &base, &[1; 9]);
    let mut later = base;
    items(0..9).iter().for_each(|item| later.frontier.push(item.leaf, |_, _, _| ()));
    let (ends, all) = write(&mut file, 2, &later, &[1, 3, 2, 1]);
    (file, ends, all)
}

#[test]
fn what_was_written_is_read() {
    let (file, _, all) = sample();
    let read = read(&file).unwrap().unwrap();
    assert_eq!((read.generation.number, read.generation.base.frontier.size), (2, 9));
    assert_eq!(read.items, all);
    assert_eq!(super::read(&[]), Ok(None));
    assert_eq!(super::read(&vec![0; 1 << 16]), Ok(None));
    let shortest = crate::Entry::new(0, Kind::Stop, Outcome::Granted).to_bytes().unwrap();
    assert!(shortest.len() >= MIN_ENTRY, "{}", shortest.len());
    let longest = Item { leaf: Hash([0; 32]), bytes: vec![0; MAX_ENTRY] };
    assert!((DATA + record_length(&vec![longest; MAX_BATCH])) as u64 <= crate::journal::LENGTH);
}

#[test]
fn no_changed_byte_is_taken_for_another_entry() {
    let (file, ends, all) = sample();
    let starts: Vec<usize> =
        std::iter::once(DATA).chain(ends.iter().map(|end| end.next_multiple_of(ALIGN))).collect();
    let header_end = 44 + read(&file).unwrap().unwrap().generation.base.encode().len() + 32;
    for at in 0..file.len() {
        let mut bad = file.clone();
        bad[at] ^= 0x10;
        let found = read(&bad);
        let record = (0..4).find(|record| (starts[*record]..ends[*record]).contains(&at));
        match record {
            Some(3) => {
                let rest = all[..all.len() - 1].to_vec();
                assert_eq!(found.unwrap().unwrap().items, rest, "{at}");
            }
            Some(record) => assert_eq!(found, Err(Damaged(starts[record] as u64)), "{at}"),
            None if at < header_end => assert!(found.is_err(), "{at}"),
            None => assert_eq!(found.unwrap().unwrap().items, all, "{at}"),
        }
    }
}

#[test]
fn an_interrupted_write_is_dropped_at_every_byte() {
    let (file, ends, all) = sample();
    let last = ends[2].next_multiple_of(ALIGN);
    for cut in last..ends[3] {
        let mut torn = file.clone();
        torn[cut..ends[3]].fill(0);
        assert_eq!(read(&torn).unwrap().unwrap().items, all[..6], "{cut}");
        let mut torn = file.clone();
        torn[last..cut].fill(0);
        let expected = if cut == last { 7 } else { 6 };
        assert_eq!(read(&torn).unwrap().unwrap().items, all[..expected], "{cut}");
    }
    // Of a header only while no record of its generation is there; then the generation before it counts.
    let mut file = vec![0; DATA + 4096];
    let base = Head::new().unwrap();
    let (_, first) = write(&mut file, 1, &base, &[2, 2]);
    let (header, _) = encode_header(2, file.len() as u64, &[9; 16], &base);
    for cut in 0..header.len() {
        let mut torn = file.clone();
        put(&mut torn, slot(2), &header[..cut]);
        assert_eq!(read(&torn).unwrap().unwrap().items, first);
    }
    put(&mut file, slot(2), &header);
    let read = read(&file).unwrap().unwrap();
    assert_eq!((read.generation.number, read.items.len()), (2, 0));
}

#[test]
fn records_can_not_be_moved_dropped_or_taken_from_elsewhere() {
    let (file, ends, _) = sample();
    let starts: Vec<usize> =
        std::iter::once(DATA).chain(ends.iter().map(|end| end.next_multiple_of(ALIGN))).collect();
    // The second is cut out, the rest moved up.
    let mut moved = file.clone();
    moved.copy_within(starts[2].., starts[1]);
    assert_eq!(read(&moved), Err(Damaged(starts[1] as u64)));
    // The first twice.
    let mut twice = file.clone();
    twice.copy_within(starts[0]..ends[0], starts[1]);
    assert_eq!(read(&twice), Err(Damaged(starts[1] as u64)));
    // The second of another journal of the same generation and the same indexes.
    let (other, ..) = sample();
    let mut spliced = file.clone();
    spliced[starts[1]..ends[1]].copy_from_slice(&other[starts[1]..ends[1]]);
    assert_eq!(read(&spliced), Err(Damaged(starts[1] as u64)));
    // The header of the generation before put in the place of both.
    let mut older = file.clone();
    older[..SLOT].copy_from_slice(&file[SLOT..DATA]);
    assert!(read(&older).is_err());
    // A file that was cut or extended.
    for length in [DATA, DATA + 1, file.len() - 1] {
        assert!(read(&file[..length]).is_err());
    }
    let mut longer = file;
    longer.push(0);
    assert!(read(&longer).is_err());
}

#[test]
fn limits_of_a_record_are_kept() {
    let mut buffer = Vec::new();
    let one = items(0..1);
    assert!(encode_record(&mut buffer, 1, 0, 0, &Hash([0; 32]), &[]).is_none());
    assert!(
        encode_record(&mut buffer, 1, 0, 0, &Hash([0; 32]), &vec![one[0].clone(); MAX_BATCH + 1]).is_none()
    );
    // Entries that are too short or too long for any log.
    for length in [0, MIN_ENTRY - 1, MAX_ENTRY + 1] {
        let mut file = vec![0; DATA + 32768];
        let base = Head::new().unwrap();
        let (header, hash) = encode_header(1, file.len() as u64, &[0; 16], &base);
        put(&mut file, slot(1), &header);
        let item = Item { leaf: Hash([0; 32]), bytes: vec![b' '; length] };
        encode_record(&mut buffer, 1, 0, 0, &hash, &[item]).unwrap();
        put(&mut file, DATA as u64, &buffer);
        assert_eq!(read(&file), Err(Damaged(DATA as u64)), "{length}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), at in 0usize..12000) {
        prop_assert!(read(&bytes).is_ok_and(|found| found.is_none()));
        let (mut file, _, all) = sample();
        let end = (at + bytes.len()).min(file.len());
        if at < end {
            file[at..end].copy_from_slice(&bytes[..end - at]);
        }
        if let Ok(Some(found)) = read(&file) {
            prop_assert!(all.starts_with(&found.items));
        }
    }

    #[test]
    fn fields_of_any_value_never_panic(field in 0usize..12, value in any::<u64>(), record in any::<bool>()) {
        let (mut file, _, all) = sample();
        let at = if record { DATA } else { 0 } + 8 + field * 4;
        file[at..at + 8].copy_from_slice(&value.to_be_bytes());
        if let Ok(Some(found)) = read(&file) {
            prop_assert!(all.starts_with(&found.items));
        }
    }
}
