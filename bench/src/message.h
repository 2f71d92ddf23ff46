/*
 * A message of so many octets: twelve header lines, some text with dots in it, then lines of base64, as
 * mail with an attachment has them. All lines end in CR LF; none begins with a dot.
 */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <stdlib.h>
#include <string.h>

static const char message_header[] =
    "Received: from client.example.org (client.example.org [192.0.2.17])\r\n"
    "\tby mx.example.net (Postfix) with ESMTPS id 4EF2720EFB2\r\n"
    "\tfor <recipient@example.net>; Mon, 2 Nov 2026 10:11:12 +0100 (CET)\r\n"
    "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=example.org; s=mail;\r\n"
    "\tbh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; h=From:To:Subject:Date;\r\n"
    "\tb=jJ0cPj2hbxk8QfIRxZ7n5v1X0mYbqkWb3O5o2rR8aN1sT4uV6wX7yZ9AbCdEfGhI\r\n"
    "Message-ID: <20261102101112.4711@client.example.org>\r\n"
    "Date: Mon, 2 Nov 2026 10:11:12 +0100\r\n"
    "From: A Sender <sender@example.org>\r\n"
    "To: A Recipient <recipient@example.net>\r\n"
    "Subject: The figures of the third quarter\r\n"
    "MIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=us-ascii\r\n"
    "Content-Transfer-Encoding: 7bit\r\n"
    "User-Agent: A user agent 1.0\r\n"
    "X-Mailer: none\r\n"
    "\r\n";
static const char message_text[] = "Here is what you asked for. It is a line like any other. See below.\r\n";
static const char message_base64[] =
    "JVBERi0xLjcKJeLjz9MKNCAwIG9iago8PC9GaWx0ZXIvRmxhdGVEZWNvZGUvTGVuZ3RoIDEyMzQ+\r\n";

/* To be freed, or NULL. size: 2048 at the least. */
static char *make_message(size_t size)
{
    char *message = size < 2048 ? NULL : malloc(size), *end = message + size;
    if (!message)
        return NULL;
    memcpy(message, message_header, sizeof message_header - 1);
    char *at = message + sizeof message_header - 1;
    while (at < end) {
        const char *line = at - message < 4096 ? message_text : message_base64;
        size_t length = strlen(line), room = (size_t) (end - at);
        memcpy(at, line, room < length ? room : length);
        at += length;
    }
    if (end[-3] == '\r')
        end[-3] = '=';  /* no bare CR */
    memcpy(end - 2, "\r\n", 2);
    return message;
}

#endif
