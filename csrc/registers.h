/* How loops that are written once, for registers of 256 and of 512 bits, call those, their instructions,
 * and functions that end in the width: FF_BITS, which is defined before such loops are included. With 256
 * V(name) is name_256, MM(add_epi32) is _mm256_add_epi32, and SI(and) is _mm256_and_si256. */
#pragma once
#define FF_JOIN_(a, b, c, d, e, f) a##b##c##d##e##f
#define FF_JOIN(a, b, c, d, e, f) FF_JOIN_(a, b, c, d, e, f)
#define V(name) FF_JOIN(name, _, FF_BITS, , , )
#define MM(name) FF_JOIN(_mm, FF_BITS, _, name, , )
#define SI(name) FF_JOIN(_mm, FF_BITS, _, name, _si, FF_BITS)
#define FF_INTS FF_JOIN(__m, FF_BITS, i, , , )
#define FF_FLOATS FF_JOIN(__m, FF_BITS, , , , )
#define FF_AS_INTS SI(castps)
#define FF_AS_FLOATS FF_JOIN(_mm, FF_BITS, _castsi, FF_BITS, _ps, )
#define FF_LANES (FF_BITS / 32)
