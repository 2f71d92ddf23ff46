#include "script.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct script script;
static struct segment *open_segment;

static void *checked(void *memory)
{
    if (memory == NULL) {
        perror("milterload");
        exit(1);
    }
    return memory;
}

static void append(const void *data, size_t length)
{
    if (open_segment == NULL) {
        size_t size = (script.count + 1) * sizeof *script.segments;
        script.segments = checked(realloc(script.segments, size));
        open_segment = &script.segments[script.count++];
        *open_segment = (struct segment){0};
    }
    size_t needed = open_segment->length + length, room = 4096;
    while (room < needed)
        room *= 2;
    open_segment->data = checked(realloc(open_segment->data, room));
    memcpy(open_segment->data + open_segment->length, data, length);
    open_segment->length = needed;
}

static void flush(char event)
{
    if (open_segment != NULL)
        open_segment->event = event;
    open_segment = NULL;
}

static void packet(char command, const void *data, size_t length)
{
    uint32_t size = htonl((uint32_t)length + 1);
    append(&size, sizeof size);
    append(&command, 1);
    append(data, length);
}

/* Postfix's defaults for each command, and what a mail from a network client has for them. */
static const struct {
    char command;
    int stage;
    const char *names;
} defaults[] = {
    {'C', 0, "j {daemon_name} {daemon_addr} v _"},
    {'H', 1, ""}, /* of TLS only */
    {'M', 2, "{mail_addr} {mail_host} {mail_mailer}"},
    {'R', 3, "{rcpt_addr} {rcpt_host} {rcpt_mailer}"},
    {'T', 4, "i"}, {'L', 6, "i"}, {'N', 6, "i"}, {'B', 5, "i"}, {'E', 5, "i"},
};
static const char *const values[][2] = {
    {"j", "mx.example.org"}, {"{daemon_name}", "mx.example.org"}, {"{daemon_addr}", "192.0.2.1"},
    {"v", "Postfix 3.7.11"}, {"_", "client.example.com [192.0.2.99]"}, {"i", "4fXyZ12AbCz9Qr"},
    {"{mail_addr}", "sender@example.com"}, {"{mail_host}", "example.com"}, {"{mail_mailer}", "smtp"},
    {"{rcpt_addr}", "recipient@example.org"}, {"{rcpt_host}", "example.org"}, {"{rcpt_mailer}", "smtp"},
};

static void send_macros(char command, const struct agreement *agreed)
{
    char data[1024] = {command}, names[256];
    size_t length = 1;
    for (size_t one = 0; one < sizeof defaults / sizeof *defaults; one++) {
        if (defaults[one].command != command)
            continue;
        const char *list = agreed->macros[defaults[one].stage];
        snprintf(names, sizeof names, "%s", *list ? list : defaults[one].names);
    }
    for (char *name = strtok(names, " ,\t"); name != NULL; name = strtok(NULL, " ,\t"))
        for (size_t one = 0; one < sizeof values / sizeof *values; one++)
            if (strcmp(values[one][0], name) == 0)
                length += (size_t)sprintf(data + length, "%s%c%s", name, 0, values[one][1]) + 1;
    packet('D', data, length);
}

static void event(char command, const void *data, size_t length, uint32_t skipped, uint32_t silent,
                  const struct agreement *agreed)
{
    send_macros(command, agreed);
    if (skipped)
        return;
    packet(command, data, length);
    if (!silent)
        flush(command);
}

struct script make_greeting(const struct agreement *agreed)
{
    static const char client[] = "client.example.com\0" "4\xC3\x50" "192.0.2.99";
    static const char helo[] = "client.example.com";
    const uint32_t flags = agreed->flags;
    script = (struct script){0};
    event('C', client, sizeof client, flags & NO_CONNECT, flags & NR_CONNECT, agreed);
    event('H', helo, sizeof helo, flags & NO_HELO, flags & NR_HELO, agreed);
    flush(0);
    return script;
}

static void add_envelope(struct work work, const struct agreement *agreed)
{
    static const char sender[] = "<sender@example.com>\0SIZE=4096";
    const uint32_t flags = agreed->flags;
    char recipient[64];
    event('M', sender, sizeof sender, flags & NO_MAIL, flags & NR_MAIL, agreed);
    for (unsigned number = 0; number < work.recipients; number++) {
        int length = snprintf(recipient, sizeof recipient, "<recipient.%u@example.org>", number);
        event('R', recipient, (size_t)length + 1, flags & NO_RCPT, flags & NR_RCPT, agreed);
    }
    event('T', "", 0, flags & NO_DATA, flags & NR_DATA, agreed);
    flush(0);
}

static const char *const names[] = {
    "Received", "DKIM-Signature", "Message-ID", "Date", "From", "To", "Subject", "MIME-Version",
    "Content-Type", "Content-Transfer-Encoding", "User-Agent", "X-Mailer",
};

struct script make_mail(struct work work, const struct agreement *agreed)
{
    const uint32_t flags = agreed->flags;
    const char *blank = flags & LEADING_SPACE ? " " : "";
    char header[128];
    size_t sent = 2; /* the empty line */
    script = (struct script){0};
    packet('A', "", 0);
    add_envelope(work, agreed);
    for (unsigned number = 0; number < work.headers; number++) {
        const char *name = names[number % (sizeof names / sizeof *names)];
        int length = snprintf(header, sizeof header, "%s%c%s%048u", name, 0, blank, number);
        sent += (size_t)length + 3 - !!(flags & LEADING_SPACE);
        event('L', header, (size_t)length + 1, flags & NO_HEADERS, flags & NR_HEADER, agreed);
    }
    event('N', "", 0, flags & NO_EOH, flags & NR_EOH, agreed);

    size_t left = work.octets > sent ? work.octets - sent : 0;
    char *body = checked(malloc(CHUNK));
    for (size_t at = 0; at < CHUNK; at++)
        body[at] = at % 78 == 76 ? '\r' : at % 78 == 77 ? '\n' : (char)('A' + at % 78 % 26);
    for (size_t size; left > 0; left -= size) {
        size = left < CHUNK ? left : CHUNK;
        event('B', body, size, flags & NO_BODY, flags & NR_BODY, agreed);
    }
    free(body);
    event('E', "", 0, 0, 0, agreed);
    return script;
}
