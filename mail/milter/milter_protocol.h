/* milter_protocol.h - the bytes of Sendmail's milter protocol, version 6: packets written and read, no I/O.
 *
 * A packet is its size in four bytes (high first), a letter and data. What we send is added to a buf; what a milter answers
 * is taken apart into slices of its packet. There is no RFC: libmilter of Sendmail 8.14 and later is the measure. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/buf.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define MILTER_VERSION      6
#define MILTER_VERSION_MIN  2
#define MILTER_DATA_MAX     65535                       /* data in a packet of ours: libmilter takes no more */
#define MILTER_ANSWER_MAX   (1u << 20)                  /* letter and data of an answer */

enum milter_command {
    MILTER_OPTIONS = 'O', MILTER_MACRO = 'D', MILTER_CONNECT = 'C', MILTER_HELO = 'H', MILTER_MAIL = 'M',
    MILTER_RCPT = 'R', MILTER_DATA = 'T', MILTER_FIELD = 'L', MILTER_END_OF_HEADER = 'N', MILTER_BODY = 'B',
    MILTER_END = 'E', MILTER_ABORT = 'A', MILTER_QUIT = 'Q', MILTER_UNKNOWN = 'U',
};

enum milter_reply {
    /* verdicts */
    MILTER_SAYS_ACCEPT = 'a', MILTER_SAYS_CONTINUE = 'c', MILTER_SAYS_DISCARD = 'd', MILTER_SAYS_REJECT = 'r',
    MILTER_SAYS_TEMPFAIL = 't', MILTER_SAYS_REPLY = 'y', MILTER_SAYS_SKIP = 's', MILTER_SAYS_SHUTDOWN = '4',
    MILTER_SAYS_CONN_FAIL = 'f', MILTER_SAYS_PROGRESS = 'p',
    /* changes */
    MILTER_ADD_FIELD = 'h', MILTER_INSERT_FIELD = 'i', MILTER_CHANGE_FIELD = 'm', MILTER_REPLACE_BODY = 'b',
    MILTER_CHANGE_SENDER = 'e', MILTER_ADD_RCPT = '+', MILTER_ADD_RCPT_PARAMS = '2', MILTER_DELETE_RCPT = '-',
    MILTER_QUARANTINE = 'q',
};

/* What a milter may do. */
#define MILTER_MAY_ADD_FIELDS      0x001u
#define MILTER_MAY_CHANGE_BODY     0x002u
#define MILTER_MAY_ADD_RCPT        0x004u
#define MILTER_MAY_DELETE_RCPT     0x008u
#define MILTER_MAY_CHANGE_FIELDS   0x010u
#define MILTER_MAY_QUARANTINE      0x020u
#define MILTER_MAY_CHANGE_SENDER   0x040u
#define MILTER_MAY_ADD_RCPT_PARAMS 0x080u
#define MILTER_MAY_CHOOSE_MACROS   0x100u
#define MILTER_MAY_ALL             0x1FFu

/* What of the conversation it does without: steps that are not told, and steps that it does not answer. */
#define MILTER_NO_CONNECT  0x000001u
#define MILTER_NO_HELO     0x000002u
#define MILTER_NO_MAIL     0x000004u
#define MILTER_NO_RCPT     0x000008u
#define MILTER_NO_BODY     0x000010u
#define MILTER_NO_FIELDS   0x000020u
#define MILTER_NO_EOH      0x000040u
#define MILTER_MUTE_FIELDS 0x000080u
#define MILTER_NO_UNKNOWN  0x000100u
#define MILTER_NO_DATA     0x000200u
#define MILTER_CAN_SKIP    0x000400u
#define MILTER_MUTE_CONNECT 0x001000u
#define MILTER_MUTE_HELO   0x002000u
#define MILTER_MUTE_MAIL   0x004000u
#define MILTER_MUTE_RCPT   0x008000u
#define MILTER_MUTE_DATA   0x010000u
#define MILTER_MUTE_UNKNOWN 0x020000u
#define MILTER_MUTE_EOH    0x040000u
#define MILTER_MUTE_BODY   0x080000u
#define MILTER_LEADING_SPACE 0x100000u                  /* values of fields keep the blank behind the colon */
#define MILTER_STEPS_ALL   0x1FF7FFu                    /* refused recipients (0x800) are not told */

/* Where macros are sent ahead; the numbers are the protocol's. */
enum milter_stage {
    MILTER_AT_CONNECT, MILTER_AT_HELO, MILTER_AT_MAIL, MILTER_AT_RCPT, MILTER_AT_DATA, MILTER_AT_END, MILTER_AT_EOH,
    MILTER_STAGE_COUNT
};

struct milter_options {
    uint32_t version, actions, steps;
    struct str macros[MILTER_STAGE_COUNT];              /* names it asks for, between blanks; p NULL: it did not ask */
};

struct milter_answer {
    enum milter_reply kind;
    uint32_t index;                                     /* of a field to insert (from 0) or to change (from 1) */
    struct str name;                                    /* of a field; an address without its angle brackets */
    struct str value;                                   /* of a field; parameters of an address; text of a reply; a piece of
                                                         * the body; the reason of a quarantine */
};

/* --- writing: parts of a packet between begin and end ------------------------------------------- */
size_t milter_packet_begin(struct buf *b, char letter);
void milter_packet_end(struct buf *b, size_t begun);
void milter_add_u32(struct buf *b, uint32_t value);
void milter_add_text(struct buf *b, struct str s);      /* with NUL behind it; up to the first NUL in it */
void milter_add_options(struct buf *b);                 /* the whole packet: all that we can do */

/* --- reading ------------------------------------------------------------------------------------- */
/* Size of the packet that these four bytes announce: letter and data. ERR_SYNTAX: none, or more than MILTER_ANSWER_MAX. */
int milter_packet_size(const unsigned char head[4], uint32_t *size, struct error *err);
/* packet: letter and data. ERR_SYNTAX: it is none that we know, or not as it should be. Borrowed from the packet. */
int milter_answer_read(struct str packet, struct milter_answer *out, struct error *err);
int milter_options_read(struct str packet, struct milter_options *out, struct error *err);

/* The reply of MILTER_SAYS_REPLY: "550 5.7.1 text", its lines joined by blanks. What is not printable ASCII becomes '?'. False: it is
 * no refusal. text has room for MILTER_TEXT_MAX bytes and a NUL. */
#define MILTER_TEXT_MAX     400
#define MILTER_ENHANCED_MAX 11
struct milter_refusal {
    int code;
    char enhanced[MILTER_ENHANCED_MAX + 1];
    char text[MILTER_TEXT_MAX + 1];
};
bool milter_refusal_read(struct str reply, struct milter_refusal *out);
