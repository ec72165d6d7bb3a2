//! Passes arbitrary bytes as the structs of the C ABI. The watcher is switched off, so nothing is armed. The structs
//! are allocated without room to spare: the address sanitizer sees every access beyond the allocation.

#![no_main]

#[allow(dead_code, reason = "the rest of the ABI")]
#[path = "../../crates/parentwatch-capi/src/lib.rs"]
mod capi;

use std::mem::offset_of;
use std::sync::Once;

use capi::*;
use libfuzzer_sys::fuzz_target;

const WORD: usize = size_of::<usize>();

/// Copies the bytes to the heap, aligned like a struct. A last, incomplete word is dropped.
fn boxed(bytes: &[u8]) -> Box<[usize]> {
    let words = bytes.chunks_exact(WORD).map(|word| usize::from_ne_bytes(word.try_into().unwrap()));
    words.collect()
}

fuzz_target!(|input: (u16, Option<&[u8]>, bool, &[u8])| {
    static OFF: Once = Once::new();
    // SAFETY: runs before anything else that uses the environment.
    OFF.call_once(|| unsafe { std::env::set_var("LOCALAI_BACKEND_PARENT_WATCH", "off") });
    let (says, parent, has_hook, bytes) = input;

    let mut options = boxed(bytes);
    let has = options.len() * WORD;
    // `size` is never larger than the allocation.
    let size = if says == 0 { has } else { usize::from(says).min(has) };
    if let Some(first) = options.first_mut() {
        *first = size;
    }
    let parent = parent.map(|bytes| {
        let mut text: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
        text.push(0);
        text.into_boxed_slice()
    });
    extern "C" fn never(_: *mut std::ffi::c_void) {
        unreachable!("no supervisor has died");
    }
    // The pointers in the struct must be valid or NULL.
    let pointers = [
        (
            offset_of!(localai_parentwatch_options_t, parent),
            parent.as_ref().map_or(0, |p| p.as_ptr() as usize),
        ),
        (
            offset_of!(localai_parentwatch_options_t, on_death),
            if has_hook { never as *const () as usize } else { 0 },
        ),
    ];
    for (offset, pointer) in pointers {
        if let Some(word) = options.get_mut(offset / WORD) {
            *word = pointer;
        }
    }
    if !options.is_empty() {
        let pointer = options.as_ptr().cast::<localai_parentwatch_options_t>();
        // SAFETY: `size` bytes are allocated, and the pointers are valid or NULL.
        let status = unsafe { localai_parentwatch_start(pointer) };
        let is_valid = is_valid(&options, size, parent.as_deref());
        let expected =
            if is_valid { LOCALAI_PARENTWATCH_DISABLED } else { LOCALAI_PARENTWATCH_INVALID };
        assert_eq!(status, expected, "{options:x?}");
    }

    let mut info = boxed(bytes);
    if let Some(first) = info.first_mut() {
        *first = size;
        let before = info.clone();
        // SAFETY: `size` bytes are allocated.
        let status = unsafe { localai_parentwatch_status(info.as_mut_ptr().cast()) };
        if size < offset_of!(localai_parentwatch_info_t, watched_pids) {
            assert_eq!(status, LOCALAI_PARENTWATCH_INVALID);
            assert_eq!(info, before, "nothing is written");
        } else {
            assert!(
                [LOCALAI_PARENTWATCH_NOT_STARTED, LOCALAI_PARENTWATCH_DISABLED].contains(&status)
            );
            let written = size.min(size_of::<localai_parentwatch_info_t>());
            assert_eq!(info[0], written);
            let beyond = written.div_ceil(WORD);
            assert_eq!(info[beyond..], before[beyond..], "nothing is written beyond");
        }
    }
});

/// Whether the options are valid: a second implementation of the rules in the header.
fn is_valid(words: &[usize], size: usize, parent: Option<&[u8]>) -> bool {
    const KNOWN: usize = size_of::<localai_parentwatch_options_t>();
    if !(KNOWN..=4096).contains(&size) {
        return false;
    }
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let u64_at = |offset: usize| u64::from_ne_bytes(bytes[offset..offset + 8].try_into().unwrap());
    let u32_at = |offset: usize| u32::from_ne_bytes(bytes[offset..offset + 4].try_into().unwrap());
    let interval = u64_at(offset_of!(localai_parentwatch_options_t, interval_ns));
    let grace = u64_at(offset_of!(localai_parentwatch_options_t, grace_ns));
    let names_supervisor = |text: &[u8]| {
        let text = std::str::from_utf8(&text[..text.len() - 1]);
        text.is_ok_and(|text| text.parse::<parentwatch::Supervisor>().is_ok())
    };
    const HOUR: u64 = 3_600_000_000_000;
    (interval == 0 || (10_000_000..=HOUR).contains(&interval))
        && grace <= HOUR
        && u32_at(offset_of!(localai_parentwatch_options_t, scope)) <= 2
        && u32_at(offset_of!(localai_parentwatch_options_t, flags)) & !1 == 0
        && bytes[KNOWN..size].iter().all(|byte| *byte == 0)
        && parent.is_none_or(names_supervisor)
}
