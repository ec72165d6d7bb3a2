//! Another Rust static library in the same program: threads, a panic that is caught, formatting.

/// Returns twice `number`, and uses a thread, a string and a caught panic for that.
#[no_mangle]
pub extern "C" fn second_twice(number: i32) -> i32 {
    std::panic::set_hook(Box::new(|_| {}));
    let caught = std::panic::catch_unwind(|| {
        if number >= 0 {
            panic!("on purpose: {number}");
        }
    });
    let thread = std::thread::spawn(move || number.to_string().parse::<i32>().unwrap_or(0));
    match (caught, thread.join()) {
        (Err(_), Ok(again)) => number + again,
        _ => -1,
    }
}
