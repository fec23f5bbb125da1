/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SAMPLE_C_SQUARE_H
#define SAMPLE_C_SQUARE_H

unsigned int square(unsigned int side);

#endif
