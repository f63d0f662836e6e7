// Peak rate of 8-bit integer multiplication on one core: independent accumulators, no memory, by
// the clock of the thread.
// One multiplication and one addition are two operations, as vendors count.
#include <stdint.h>
#include <time.h>

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

// Accumulators are variables of their own: those of an array would lie in memory, as the empty assembly
// that holds the compiler back asks for their addresses.
#define EIGHT(zero) a0 = zero, a1 = zero, a2 = zero, a3 = zero, a4 = zero, a5 = zero, a6 = zero, a7 = zero
#define EACH(step) step(a0) step(a1) step(a2) step(a3) step(a4) step(a5) step(a6) step(a7)

#if defined(__AMX_INT8__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
// Four pairs of tiles of 16 rows by 64 bytes: 16 * 16 * 64 multiplications an instruction.
enum { OPS = 4 * 2 * 16 * 16 * 64 };
static int begin(void) {
    static _Thread_local struct { uint8_t palette, start; uint8_t none[14]; uint16_t colsb[16]; uint8_t rows[16]; } c
        __attribute__((aligned(64)));
    if (syscall(SYS_arch_prctl, 0x1023, 18) != 0) return 0;  // ARCH_REQ_XCOMP_PERM, tile data
    c.palette = 1;
    for (int i = 0; i < 8; i++) { c.rows[i] = 16; c.colsb[i] = 64; }
    _tile_loadconfig(&c);
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    _tile_zero(4); _tile_zero(5); _tile_zero(6); _tile_zero(7);
    return 1;
}
static void run(int steps) {
    for (int i = 0; i < steps; i++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
}
static void end(void) { _tile_release(); }
#elif defined(__AVX512VNNI__)
#include <immintrin.h>
enum { OPS = 8 * 2 * 64 };
static int begin(void) { return 1; }
static void run(int steps) {
    const __m512i x = _mm512_set1_epi8(1);
    __m512i EIGHT(_mm512_setzero_si512());
    for (int i = 0; i < steps; i++) {
#define STEP(a) a = _mm512_dpbusd_epi32(a, x, x); __asm__ volatile("" : "+v"(a));
        EACH(STEP)
    }
}
static void end(void) {}
#elif defined(__ARM_FEATURE_MATMUL_INT8) || defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#if defined(__ARM_FEATURE_MATMUL_INT8)
enum { OPS = 8 * 2 * 32 };
#define MULTIPLY vmmlaq_s32
#else
enum { OPS = 8 * 2 * 16 };
#define MULTIPLY vdotq_s32
#endif
static int begin(void) { return 1; }
static void run(int steps) {
    const int8x16_t x = vdupq_n_s8(1);
    int32x4_t EIGHT(vdupq_n_s32(0));
    for (int i = 0; i < steps; i++) {
#define STEP(a) a = MULTIPLY(a, x, x); __asm__ volatile("" : "+w"(a));
        EACH(STEP)
    }
}
static void end(void) {}
#elif defined(__AVX2__)
#include <immintrin.h>
enum { OPS = 8 * 2 * 32 };
static int begin(void) { return 1; }
#if defined(__AVXVNNI__)
#define MULTIPLY(a, x, one) _mm256_dpbusd_avx_epi32(a, x, x)
#else
#define MULTIPLY(a, x, one) _mm256_add_epi32(a, _mm256_madd_epi16(_mm256_maddubs_epi16(x, x), one))
#endif
static void run(int steps) {
    __m256i x = _mm256_set1_epi8(1), one = _mm256_set1_epi16(1), EIGHT(_mm256_setzero_si256());
    for (int i = 0; i < steps; i++) {
// "x" changes: not the same product eight times.
#define STEP(a) __asm__ volatile("" : "+x"(x)); a = MULTIPLY(a, x, one); __asm__ volatile("" : "+x"(a));
        EACH(STEP)
    }
    (void) one;
}
static void end(void) {}
#else
enum { OPS = 0 };
static int begin(void) { return 0; }
static void run(int steps) { (void) steps; }
static void end(void) {}
#endif

// Returns operations a second of the calling thread; 0 where this CPU has no such instructions.
__attribute__((visibility("default"))) double polysilicon_int8_rate(double seconds) {
    if (!begin()) return 0.0;
    const double from_s = now_s();
    double to_s = from_s;
    uint64_t steps = 0;
    while (to_s - from_s < seconds) {
        run(20000);
        steps += 20000;
        to_s = now_s();
    }
    end();
    return (double) steps * OPS / (to_s - from_s);
}
