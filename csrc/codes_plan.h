/* What the loops of codes.inc.h need to know of a format and its rules. */

/* What there is to do beside that for a mode: nothing; take signs along, as up is away from zero for
 * some values and toward it for others; add half a place; make what lost something odd. */
enum { FF_AS_IT_IS, FF_BY_SIGN, FF_TIES_AWAY, FF_STICKY };

/* Kinds of codes: bytes; those of fixed-point formats, all of whose values are in one binade; bytes
 * and words that are magnitudes and signs, whatever overflows, negative ones 0 where there is no sign;
 * bytes of which 0 alone has no sign, so that -0 is NaN; E8M0, which has its own sum. */
enum {
    FF_BYTES,
    FF_BYTES_FIXED,
    FF_BYTES_CAPPED,
    FF_BYTES_FNUZ,
    FF_WORDS_CAPPED,
    FF_KINDS,
    FF_BYTES_E8M0 = FF_KINDS
};

/* Pairs are by sign.
 *
 *   beyond       pattern of the magnitude that larger ones are taken for
 *   add, odd_add as in a plan32, for E8M0
 *   sign, keep   a negative code is (magnitude | sign) & keep
 * and where codes are not capped:
 *   limit        larger magnitudes become `overflow`, a code
 *   flip, minus  a negative code is (magnitude ^ flip) - minus, in the bits of code_mask: minus and
 *                code_mask are for fixed-point formats */
struct codes_plan {
    uint32_t beyond[2], linear, add, odd_add;
    int is_there, drop, how, kind;
    uint16_t sign;
    uint8_t limit[2], overflow[2], flip, minus, code_mask, keep;
};

/* Of a magnitude of f, or the next one after them all, as if magnitudes went on. */
FF_INLINE uint32_t pattern_of_magnitude(uint32_t magnitude, struct ff_format f, struct plan32 p)
{
    if (magnitude >> f.fraction_bits)
        return (magnitude << p.drop) + p.rebias;
    return bits_of_float((float)((double)magnitude * power_of_two(1 - f.bias - f.fraction_bits)));
}

/* Whether what overflows has a magnitude, and the sign of others, and which: that of a NaN in the place
 * of -0 is the next one after them all. */
FF_INLINE int is_capped_at(struct ff_format f, const struct ff_rules *r, int s, uint64_t *cap)
{
    const int is_fnuz = f.nan == FF_NAN_NEGATIVE_ZERO && r->overflow[s] == sign_bit(f);
    *cap = is_fnuz ? sign_bit(f) : r->overflow[s] & ~sign_bit(f);
    if (f.sign == FF_UNSIGNED && s == 1)
        return r->overflow[s] == 0;
    return (*cap | (s ? sign_bit(f) : 0)) == r->overflow[s] && *cap - (uint64_t)r->limit[s] <= 1;
}

/* Fills what depends on what overflows, and says whether there is a loop. */
static void set_limits_of_codes(struct codes_plan *c, struct ff_format f, const struct ff_rules *r,
                                struct plan32 p)
{
    const uint64_t most = (uint64_t)(r->limit[0] > r->limit[1] ? r->limit[0] : r->limit[1]);
    const int is_byte = code_bytes(f) == 1, is_signed = f.sign == FF_SIGN_MAGNITUDE;
    const int is_fnuz = f.nan == FF_NAN_NEGATIVE_ZERO;
    int is_capped = is_signed || (f.sign == FF_UNSIGNED && f.exponent_bits != 0);
    for (int s = 0; s < 2; s++) {
        uint64_t cap;
        c->limit[s] = (uint8_t)r->limit[s], c->overflow[s] = (uint8_t)r->overflow[s];
        is_capped &= is_capped_at(f, r, s, &cap);
        c->beyond[s] = pattern_of_magnitude((uint32_t)cap, f, p);
    }
    c->is_there = is_capped ? is_byte || (is_signed && !is_fnuz) : is_byte && !is_fnuz;
    if (is_capped)
        c->kind = !is_byte ? FF_WORDS_CAPPED : is_fnuz ? FF_BYTES_FNUZ : FF_BYTES_CAPPED;
    else { /* 256 is packed into 255, of which uint8 makes the same */
        c->kind = f.exponent_bits ? FF_BYTES : FF_BYTES_FIXED;
        c->beyond[0] = c->beyond[1] = pattern_of_magnitude((uint32_t)most + 1, f, p);
    }
}

static struct codes_plan codes_plan_of(struct ff_format f, const struct ff_rules *r,
                                       struct plan32 p)
{
    static const int hows[] = {
        [FF_NEAREST_EVEN] = FF_AS_IT_IS,     [FF_NEAREST_AWAY] = FF_TIES_AWAY,
        [FF_TOWARD_ZERO] = FF_AS_IT_IS,      [FF_TOWARD_POSITIVE] = FF_BY_SIGN,
        [FF_TOWARD_NEGATIVE] = FF_BY_SIGN,   [FF_TO_ODD] = FF_STICKY,
    };
    struct codes_plan c = {0};
    const int is_e8m0 = is_format(f, E8M0FNU);
    if (r->rounding == FF_STOCHASTIC || code_bytes(f) > 2 || !(p.is_inside || is_e8m0))
        return c;
    const int twos = f.sign == FF_TWOS_COMPLEMENT;
    c.how = hows[r->rounding];
    c.drop = p.drop, c.linear = p.linear, c.add = p.add, c.odd_add = p.odd_add;
    c.sign = (uint16_t)sign_bit(f);
    c.code_mask = (uint8_t)(sign_bit(f) | magnitude_mask(f));
    c.flip = twos ? c.code_mask : (uint8_t)c.sign, c.minus = twos ? UINT8_MAX : 0;
    c.keep = f.sign == FF_UNSIGNED ? 0 : UINT8_MAX;
    set_limits_of_codes(&c, f, r, p);
    if (is_e8m0)
        c.kind = FF_BYTES_E8M0;
    return c;
}
