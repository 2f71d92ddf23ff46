/* spoolmilter: a milter on libmilter that writes each mail into a spool directory, and is its
 * yardstick.
 *
 *   spoolmilter [-n] -o DIRECTORY -p ADDRESS
 *
 * Of a mail a file: lines X-REAL-MAILFROM and X-REAL-RCPTTO, then header and body as they came. It
 * is written under a temporary name, synced, and renamed, then the directory is synced, then the
 * mail server is answered. -n: without the two syncs. Nothing is escaped and nothing is checked at
 * the start.
 *
 * As quick as libmilter lets a plain program be: events that are not needed are not asked for,
 * replies only where they matter, one macro; a mail is gathered in memory and written with one
 * write(2), a large one 256 KiB at a time. libmilter's threads serve the connections, so that many
 * syncs are under way at once, and the file system may join them. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <libmilter/mfapi.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SPILL = 256 * 1024 };

struct mail {
    char *data;
    size_t length, room, written;
    int fd; /* of the temporary file, or -1 */
    int failed;
    char temporary[64];
};

static int directory = -1, durable = 1;
static atomic_ulong counter;

static void spill(struct mail *mail)
{
    if (mail->fd < 0 && !mail->failed) {
        unsigned long number = atomic_fetch_add(&counter, 1);
        snprintf(mail->temporary, sizeof mail->temporary, ".tmp.%d.%lu", (int)getpid(), number);
        mail->fd = openat(directory, mail->temporary, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0640);
    }
    for (size_t done = 0; done < mail->length && !mail->failed;) {
        ssize_t took = write(mail->fd, mail->data + done, mail->length - done);
        mail->failed = took < 0;
        done += mail->failed ? 0 : (size_t)took;
    }
    mail->written += mail->length;
    mail->length = 0;
}

static void append(struct mail *mail, const void *data, size_t length)
{
    if (mail->length + length > SPILL)
        spill(mail);
    if (mail->length + length > mail->room) {
        size_t room = mail->room ? mail->room : 8192;
        while (room < mail->length + length)
            room *= 2;
        char *larger = realloc(mail->data, room);
        if (larger == NULL) {
            mail->failed = 1;
            return;
        }
        mail->data = larger;
        mail->room = room;
    }
    memcpy(mail->data + mail->length, data, length);
    mail->length += length;
}

static void append_text(struct mail *mail, const char *text)
{
    append(mail, text, strlen(text));
}

/* Forget the mail under way; the memory is kept for the next. */
static void forget(struct mail *mail)
{
    if (mail->fd >= 0) {
        close(mail->fd);
        unlinkat(directory, mail->temporary, 0);
    }
    mail->fd = -1;
    mail->length = mail->written = 0;
    mail->failed = 0;
}

static struct mail *mail_of(SMFICTX *context)
{
    struct mail *mail = smfi_getpriv(context);
    if (mail == NULL && (mail = calloc(1, sizeof *mail)) != NULL) {
        mail->fd = -1;
        smfi_setpriv(context, mail);
    }
    return mail;
}

static sfsistat on_negotiation(SMFICTX *context, unsigned long actions, unsigned long steps,
                               unsigned long a, unsigned long b, unsigned long *our_actions,
                               unsigned long *our_steps, unsigned long *our_a, unsigned long *our_b)
{
    const unsigned long wanted = SMFIP_NOCONNECT | SMFIP_NOHELO | SMFIP_NODATA | SMFIP_NOUNKNOWN
                                 | SMFIP_NR_RCPT | SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY
                                 | SMFIP_HDR_LEADSPC;
    (void)a, (void)b;
    *our_actions = actions & SMFIF_SETSYMLIST;
    *our_steps = wanted;
    if ((steps & wanted) != wanted)
        return SMFIS_REJECT; /* Postfix from 2.6 and Sendmail from 8.14 know them all */
    *our_a = *our_b = 0;
    if (actions & SMFIF_SETSYMLIST)
        smfi_setsymlist(context, SMFIM_EOM, "i");
    return SMFIS_CONTINUE;
}

static sfsistat on_mail(SMFICTX *context, char **arguments)
{
    struct mail *mail = mail_of(context);
    if (mail == NULL)
        return SMFIS_TEMPFAIL;
    forget(mail);
    append_text(mail, "X-REAL-MAILFROM: ");
    append_text(mail, arguments[0]);
    append(mail, "\r\n", 2);
    return SMFIS_CONTINUE;
}

static sfsistat on_recipient(SMFICTX *context, char **arguments)
{
    struct mail *mail = mail_of(context);
    append_text(mail, "X-REAL-RCPTTO: ");
    append_text(mail, arguments[0]);
    append(mail, "\r\n", 2);
    return SMFIS_NOREPLY;
}

static sfsistat on_header(SMFICTX *context, char *name, char *value)
{
    struct mail *mail = mail_of(context);
    append_text(mail, name);
    append(mail, ":", 1);
    for (char *end; (end = strchr(value, '\n')) != NULL; value = end + 1) {
        append(mail, value, (size_t)(end - value));
        append(mail, "\r\n", 2);
    }
    append_text(mail, value);
    append(mail, "\r\n", 2);
    return SMFIS_NOREPLY;
}

static sfsistat on_end_of_header(SMFICTX *context)
{
    append(mail_of(context), "\r\n", 2);
    return SMFIS_NOREPLY;
}

static sfsistat on_body(SMFICTX *context, unsigned char *data, size_t length)
{
    append(mail_of(context), data, length);
    return SMFIS_NOREPLY;
}

static int keep(struct mail *mail)
{
    struct timespec now;
    char name[96];
    spill(mail);
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(name, sizeof name, "%ld.%06ld%s.S=%zu.eml", (long)now.tv_sec, now.tv_nsec / 1000,
             mail->temporary + 4, mail->written);
    if (mail->failed || (durable && fdatasync(mail->fd) < 0))
        return 0;
    if (close(mail->fd) < 0 || renameat(directory, mail->temporary, directory, name) < 0)
        return 0;
    mail->fd = -1;
    return !durable || fsync(directory) == 0;
}

static sfsistat on_end(SMFICTX *context)
{
    struct mail *mail = mail_of(context);
    int kept = keep(mail);
    forget(mail);
    return kept ? SMFIS_CONTINUE : SMFIS_TEMPFAIL;
}

static sfsistat on_abort(SMFICTX *context)
{
    struct mail *mail = smfi_getpriv(context);
    if (mail != NULL)
        forget(mail);
    return SMFIS_CONTINUE;
}

static sfsistat on_close(SMFICTX *context)
{
    struct mail *mail = smfi_getpriv(context);
    if (mail != NULL) {
        forget(mail);
        free(mail->data);
        free(mail);
        smfi_setpriv(context, NULL);
    }
    return SMFIS_CONTINUE;
}

int main(int argc, char **argv)
{
    struct smfiDesc description = {
        .xxfi_name = "spoolmilter", .xxfi_version = SMFI_VERSION, .xxfi_negotiate = on_negotiation,
        .xxfi_envfrom = on_mail, .xxfi_envrcpt = on_recipient, .xxfi_header = on_header,
        .xxfi_eoh = on_end_of_header, .xxfi_body = on_body, .xxfi_eom = on_end, .xxfi_abort = on_abort,
        .xxfi_close = on_close,
    };
    char *address = NULL;
    for (int option; (option = getopt(argc, argv, "no:p:")) != -1;) {
        if (option == 'n')
            durable = 0;
        else if (option == 'o')
            directory = open(optarg, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        else if (option == 'p')
            address = optarg;
    }
    if (directory < 0 || address == NULL || smfi_setconn(address) != MI_SUCCESS) {
        fprintf(stderr, "usage: spoolmilter [-n] -o DIRECTORY -p ADDRESS\n");
        return 2;
    }
    smfi_setbacklog(1024);
    return smfi_register(description) == MI_SUCCESS && smfi_main() == MI_SUCCESS ? 0 : 1;
}
