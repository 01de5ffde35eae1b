/* Writing more than caches keep. A plain store first reads the line it writes to. One that goes past
 * the caches does not, but whoever wants the result next has to fetch it from memory. Included inside
 * each ISA's region, after scalar.h. */

/* Bytes read and written from which on that pays: benchmarks/README.md has the figures. */
#define FF_STREAMED_FROM ((size_t)16 << 20)

/* What a streaming loop works on at a time, in elements: whole lines, that stay in registers or
 * nearly so. More would let reading wait for writing. */
enum { FF_STREAM = 64 };

#if defined(__SSE2__)
FF_INLINE int is_streamed(size_t bytes) { return bytes >= FF_STREAMED_FROM; }

FF_INLINE void stream(void *to, const void *lines, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += sizeof(__m128i))
        _mm_stream_si128((__m128i *)((char *)to + i),
                         _mm_load_si128((const __m128i *)((const char *)lines + i)));
}

/* Stores past the caches are in no order with others, for other threads, before this. */
FF_INLINE void end_of_stream(void) { _mm_sfence(); }
#else
FF_INLINE int is_streamed(size_t bytes) { return (void)bytes, 0; }
FF_INLINE void stream(void *to, const void *lines, size_t bytes) { memcpy(to, lines, bytes); }
FF_INLINE void end_of_stream(void) {}
#endif

FF_INLINE int is_aligned(const void *to) { return ((uintptr_t)to & 15) == 0; }

/* Asks for so many bytes before they are read: those `ahead` of x. */
FF_INLINE void prefetch_ahead(const void *x, size_t ahead, size_t bytes)
{
    for (size_t k = 0; k < bytes; k += 64)
        __builtin_prefetch((const char *)x + ahead + k);
}

/* How far ahead a streaming loop asks: its stores hold up the hardware's guesses. */
enum { FF_AHEAD = 1024 };

/* How many of n elements of so many bytes at `to` come before those that are streamed: up to the first
 * whole line, or all. `more` are the bytes of an element that go elsewhere or are read. */
FF_INLINE size_t before_streaming(const void *to, size_t bytes, size_t n, size_t more)
{
    const size_t rest = -(uintptr_t)to & 63;
    return is_streamed(n * (bytes + more)) && rest % bytes == 0 ? rest / bytes : n;
}

/* Defines `name`, which has SOME write n results, and streams those that caches do not keep. SOME is
 * inline. PARAMETER and ARGUMENT are of one more thing that it needs, if any, in brackets, each with
 * a comma. */
#define FF_BARE(...) __VA_ARGS__
#define FF_DEFINE_STREAMED(name, PARAMETER, ARGUMENT, IN, OUT, SOME)                               \
    FF_LOOP void name(FF_BARE PARAMETER const IN *restrict x, OUT *restrict out, size_t n)         \
    {                                                                                              \
        size_t i = before_streaming(out, sizeof(OUT), n, sizeof(IN));                              \
        SOME(FF_BARE ARGUMENT x, out, i);                                                          \
        if (i == n)                                                                                \
            return;                                                                                \
        for (; i + FF_STREAM <= n; i += FF_STREAM) {                                               \
            _Alignas(64) OUT lines[FF_STREAM];                                                     \
            SOME(FF_BARE ARGUMENT x + i, lines, FF_STREAM);                                        \
            prefetch_ahead(x + i, FF_AHEAD, FF_STREAM * sizeof(IN));                               \
            stream(out + i, lines, sizeof lines);                                                  \
        }                                                                                          \
        end_of_stream();                                                                           \
        SOME(FF_BARE ARGUMENT x + i, out + i, n - i);                                              \
    }

/* The same for a loop that makes of every value another. */
#define FF_DEFINE_MAP(name, PARAMETER, ARGUMENT, IN, OUT, CORE)                                    \
    FF_INLINE void name##_some(FF_BARE PARAMETER const IN *restrict x, OUT *restrict out, size_t n)\
    {                                                                                              \
        for (size_t i = 0; i < n; i++)                                                             \
            out[i] = CORE(x[i]);                                                                   \
    }                                                                                              \
    FF_DEFINE_STREAMED(name, PARAMETER, ARGUMENT, IN, OUT, name##_some)
