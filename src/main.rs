//! The `portcullis` command: arguments in, exit code out.

/// Gives memory back soon after a burst, and costs fewer instructions than the C library's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    portcullis::cli::main()
}
