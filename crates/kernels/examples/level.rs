//! Prints the level in use: the fastest that this CPU has and `WEIGHTZIP_SIMD` allows.

fn main() {
    println!("{}", weightzip_kernels::level().name());
}
