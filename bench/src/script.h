/* One mail as Postfix sends it to a milter, as octets with the points at which a reply is waited
 * for.
 *
 * What is sent depends on what the milter agreed to (SMFIP_*): events that it does not want are left
 * out, though their macros are sent all the same; where no reply is owed, events are joined up to
 * the next flush. Postfix flushes where it waits, and where smtpd(8) hands the connection over to
 * cleanup(8), after DATA. Macros: Postfix's defaults, or for a stage the list that the milter asked
 * for (SMFIF_SETSYMLIST). Source: Postfix 3.7, src/milter/milter8.c and milters.c. */

#ifndef SCRIPT_H
#define SCRIPT_H

#include <stddef.h>

#include "negotiation.h"

enum {
    CHUNK = 65535,    /* MILTER_CHUNK_SIZE */
    ABORT_LENGTH = 5, /* of the first packet of a mail: Postfix aborts after each, accepted or not */
};

struct work {
    size_t octets; /* of a message, headers and body */
    unsigned headers, recipients;
};

/* Octets to be written at once. event: the command that is answered, or 0 where none is. */
struct segment {
    char *data;
    size_t length;
    char event;
};

struct script {
    struct segment *segments;
    size_t count;
};

/* greeting: what precedes the first mail of a connection. Both end with the process. */
struct script make_greeting(const struct agreement *agreed);
struct script make_mail(struct work work, const struct agreement *agreed);

#endif
