/* A connection to a milter, and what both sides agree to. */

#ifndef NEGOTIATION_H
#define NEGOTIATION_H

#include <stdint.h>

enum {
    VERSION = 6,
    ACTIONS = 0x1FF,
    PROTOCOL = 0x1FFFFF, /* all SMFIP_* but the sizes of packets, which only Sendmail knows */
    NO_CONNECT = 1 << 0, NO_HELO = 1 << 1, NO_MAIL = 1 << 2, NO_RCPT = 1 << 3, NO_BODY = 1 << 4,
    NO_HEADERS = 1 << 5, NO_EOH = 1 << 6, NR_HEADER = 1 << 7, NO_DATA = 1 << 9, NR_CONNECT = 1 << 12,
    NR_HELO = 1 << 13, NR_MAIL = 1 << 14, NR_RCPT = 1 << 15, NR_DATA = 1 << 16, NR_EOH = 1 << 18,
    NR_BODY = 1 << 19, LEADING_SPACE = 1 << 20,
    STAGES = 7, /* of macros: SMFIM_CONNECT to SMFIM_EOH */
};

/* flags: SMFIP_*. macros: the names that the milter asked for, empty for the defaults. */
struct agreement {
    uint32_t flags;
    char macros[STAGES][256];
};

/* address: the path of a Unix socket, or a TCP port on 127.0.0.1. Both end the program on an error. */
int dial(const char *address);
struct agreement negotiate(int fd);
void fail(const char *what);

#endif
