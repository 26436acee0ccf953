/* dsn_text.c - the words of delivery reports, and which advice goes with which enhanced status code.
 *
 * The codes are those of RFC 3463 and of the registry that grew from it (5248, 6710, 7372, 7505, 8689). A code that has no
 * row of its own reads as its subject (x.N.0), and that as "other". */
#include "mail/queue/dsn_text.h"

enum advice {
    ADVICE_OTHER,
    ADVICE_NO_SUCH_ADDRESS,
    ADVICE_NO_SUCH_DOMAIN,
    ADVICE_DOMAIN_TAKES_NO_MAIL,
    ADVICE_MOVED,
    ADVICE_SENDER_ADDRESS,
    ADVICE_MAILBOX_DISABLED,
    ADVICE_MAILBOX_FULL,
    ADVICE_TOO_BIG,
    ADVICE_GROUP,
    ADVICE_SYSTEM_TROUBLE,
    ADVICE_NO_ANSWER,
    ADVICE_DNS,
    ADVICE_LOOP,
    ADVICE_TOO_LATE,
    ADVICE_CONGESTION,
    ADVICE_PROTOCOL,
    ADVICE_TOO_MANY_RECIPIENTS,
    ADVICE_CONTENT,
    ADVICE_NOT_INTERNATIONAL,
    ADVICE_REFUSED,
    ADVICE_NOT_ALLOWED,
    ADVICE_ENCRYPTION,
    ADVICE_SENDER_NOT_PROVEN,
    ADVICE_ADMINISTRATOR,
    ADVICE_COUNT
};

static const struct {
    int subject, detail; /* of x.subject.detail */
    enum advice advice;
} rows[] = {
    {1, 0, ADVICE_NO_SUCH_ADDRESS},
    {1, 1, ADVICE_NO_SUCH_ADDRESS},
    {1, 2, ADVICE_NO_SUCH_DOMAIN},
    {1, 3, ADVICE_NO_SUCH_ADDRESS},
    {1, 4, ADVICE_NO_SUCH_ADDRESS},
    {1, 6, ADVICE_MOVED},
    {1, 7, ADVICE_SENDER_ADDRESS},
    {1, 8, ADVICE_SENDER_ADDRESS},
    {1, 10, ADVICE_DOMAIN_TAKES_NO_MAIL},
    {2, 0, ADVICE_MAILBOX_DISABLED},
    {2, 1, ADVICE_MAILBOX_DISABLED},
    {2, 2, ADVICE_MAILBOX_FULL},
    {2, 3, ADVICE_TOO_BIG},
    {2, 4, ADVICE_GROUP},
    {3, 0, ADVICE_SYSTEM_TROUBLE},
    {3, 1, ADVICE_SYSTEM_TROUBLE},
    {3, 2, ADVICE_SYSTEM_TROUBLE},
    {3, 4, ADVICE_TOO_BIG},
    {3, 5, ADVICE_ADMINISTRATOR},
    {4, 0, ADVICE_NO_ANSWER},
    {4, 1, ADVICE_NO_ANSWER},
    {4, 2, ADVICE_NO_ANSWER},
    {4, 3, ADVICE_DNS},
    {4, 4, ADVICE_DNS},
    {4, 5, ADVICE_CONGESTION},
    {4, 6, ADVICE_LOOP},
    {4, 7, ADVICE_TOO_LATE},
    {5, 0, ADVICE_PROTOCOL},
    {5, 3, ADVICE_TOO_MANY_RECIPIENTS},
    {6, 0, ADVICE_CONTENT},
    {6, 7, ADVICE_NOT_INTERNATIONAL},
    {6, 9, ADVICE_NOT_INTERNATIONAL},
    {6, 10, ADVICE_NOT_INTERNATIONAL},
    {7, 0, ADVICE_REFUSED},
    {7, 1, ADVICE_REFUSED},
    {7, 2, ADVICE_NOT_ALLOWED},
    {7, 4, ADVICE_ENCRYPTION},
    {7, 10, ADVICE_ENCRYPTION},
    {7, 11, ADVICE_ENCRYPTION},
    {7, 20, ADVICE_SENDER_NOT_PROVEN},
    {7, 21, ADVICE_SENDER_NOT_PROVEN},
    {7, 22, ADVICE_SENDER_NOT_PROVEN},
    {7, 23, ADVICE_SENDER_NOT_PROVEN},
    {7, 24, ADVICE_SENDER_NOT_PROVEN},
    {7, 25, ADVICE_ADMINISTRATOR},
    {7, 26, ADVICE_SENDER_NOT_PROVEN},
    {7, 27, ADVICE_SENDER_ADDRESS},
    {7, 28, ADVICE_CONGESTION},
    {7, 29, ADVICE_SENDER_NOT_PROVEN},
    {7, 30, ADVICE_ENCRYPTION},
};

/* clang-format off */
static const char *const english[ADVICE_COUNT] = {
    [ADVICE_OTHER] = "What the server said stands below. If it does not help you, send this report to your administrators.",
    [ADVICE_NO_SUCH_ADDRESS] = "There is no such address. Look for a slip in its spelling, or ask the recipient for the right one, and send the message again.",
    [ADVICE_NO_SUCH_DOMAIN] = "What stands behind the @ is not a name that receives mail. Look for a slip in its spelling and send the message again.",
    [ADVICE_DOMAIN_TAKES_NO_MAIL] = "This domain says that it receives no mail at all. Ask the recipient for another address.",
    [ADVICE_MOVED] = "The recipient has moved and left no new address here. Reach them in another way and ask for it.",
    [ADVICE_SENDER_ADDRESS] = "Their server does not accept your own address as a sender. Your administrators can find out why: send them this report.",
    [ADVICE_MAILBOX_DISABLED] = "The mailbox exists but takes no messages now. Reach the recipient in another way and tell them.",
    [ADVICE_MAILBOX_FULL] = "The recipient's mailbox is full. Send the message again later, or reach them in another way and tell them.",
    [ADVICE_TOO_BIG] = "The message is larger than they accept. Send it with smaller attachments, in several messages, or with a link instead of the files.",
    [ADVICE_GROUP] = "The address is a group whose members could not be reached through it. Write to the members themselves, or tell the group's owner.",
    [ADVICE_SYSTEM_TROUBLE] = "Their mail system has trouble of its own. Send the message again later.",
    [ADVICE_NO_ANSWER] = "Their mail server could not be reached. If others can write to them, send this report to your administrators; if not, send the message again later.",
    [ADVICE_DNS] = "We could not find out which server takes this domain's mail. Look for a slip in what stands behind the @; if it is right, send the message again later.",
    [ADVICE_LOOP] = "The message was going round in circles between servers. Only administrators can mend that: send them this report.",
    [ADVICE_TOO_LATE] = "We tried for as long as we may and could not hand the message over. If it still matters, send it again or reach the recipient in another way.",
    [ADVICE_CONGESTION] = "Their server takes no more messages from us for the time being. Send the message again later; if you write to very many people, write to fewer at a time.",
    [ADVICE_PROTOCOL] = "The two servers did not understand each other. Send this report to your administrators.",
    [ADVICE_TOO_MANY_RECIPIENTS] = "The message had more recipients than their server takes at once. Send it to fewer people at a time.",
    [ADVICE_CONTENT] = "Their server cannot take a message of this kind. Send it as plain text, or with its attachments packed into an archive.",
    [ADVICE_NOT_INTERNATIONAL] = "Their server does not know addresses with letters beyond a to z. Ask the recipient for an address without them, or write from one.",
    [ADVICE_REFUSED] = "Their server refused the message. What it said stands below; often such refusals are about spam or about who may write there. Reach the recipient in another way, or send this report to your administrators.",
    [ADVICE_NOT_ALLOWED] = "You may not write to this address: only some people may. Ask its owner to let you.",
    [ADVICE_ENCRYPTION] = "The message may only travel encrypted, and a safe connection to their server was not to be had. It was not sent in the open.",
    [ADVICE_SENDER_NOT_PROVEN] = "Their server could not verify that the message really comes from your domain. Your administrators can mend that: send them this report.",
    [ADVICE_ADMINISTRATOR] = "Only administrators can mend this: send them this report.",
};

static const char *const indonesian[ADVICE_COUNT] = {
    [ADVICE_OTHER] = "Jawaban server tercantum di bawah. Jika belum jelas, kirimkan laporan ini kepada administrator Anda.",
    [ADVICE_NO_SUCH_ADDRESS] = "Alamat ini tidak ada. Periksa ejaannya, atau tanyakan alamat yang benar kepada penerima, lalu kirim ulang pesan Anda.",
    [ADVICE_NO_SUCH_DOMAIN] = "Bagian setelah @ bukan nama yang menerima surel. Periksa ejaannya, lalu kirim ulang pesan Anda.",
    [ADVICE_DOMAIN_TAKES_NO_MAIL] = "Domain ini menyatakan tidak menerima surel sama sekali. Tanyakan alamat lain kepada penerima.",
    [ADVICE_MOVED] = "Penerima sudah pindah dan tidak meninggalkan alamat baru di sini. Hubungi penerima dengan cara lain dan tanyakan alamatnya.",
    [ADVICE_SENDER_ADDRESS] = "Server penerima tidak menerima alamat Anda sendiri sebagai pengirim. Administrator Anda dapat mencari sebabnya: kirimkan laporan ini kepada mereka.",
    [ADVICE_MAILBOX_DISABLED] = "Kotak surat ini ada, tetapi sedang tidak menerima pesan. Hubungi penerima dengan cara lain dan beri tahu.",
    [ADVICE_MAILBOX_FULL] = "Kotak surat penerima penuh. Kirim ulang nanti, atau hubungi penerima dengan cara lain dan beri tahu.",
    [ADVICE_TOO_BIG] = "Pesan ini lebih besar dari yang mereka terima. Kirim dengan lampiran yang lebih kecil, dalam beberapa pesan, atau dengan tautan sebagai pengganti berkas.",
    [ADVICE_GROUP] = "Alamat ini adalah grup, dan anggotanya tidak terjangkau lewat alamat itu. Tulislah langsung kepada anggotanya, atau beri tahu pemilik grup.",
    [ADVICE_SYSTEM_TROUBLE] = "Sistem surel penerima sedang bermasalah. Kirim ulang pesan Anda nanti.",
    [ADVICE_NO_ANSWER] = "Server surel penerima tidak dapat dihubungi. Jika orang lain dapat menulis kepadanya, kirimkan laporan ini kepada administrator Anda; jika tidak, kirim ulang nanti.",
    [ADVICE_DNS] = "Kami tidak menemukan server yang menerima surel untuk domain ini. Periksa ejaan bagian setelah @; jika sudah benar, kirim ulang nanti.",
    [ADVICE_LOOP] = "Pesan ini berputar-putar di antara beberapa server. Hanya administrator yang dapat memperbaikinya: kirimkan laporan ini kepada mereka.",
    [ADVICE_TOO_LATE] = "Kami sudah mencoba selama yang diperbolehkan, tetapi pesan tidak dapat diserahkan. Jika masih penting, kirim ulang atau hubungi penerima dengan cara lain.",
    [ADVICE_CONGESTION] = "Untuk sementara server penerima tidak menerima pesan lagi dari kami. Kirim ulang nanti; jika Anda menulis kepada sangat banyak orang, kurangi jumlahnya sekali kirim.",
    [ADVICE_PROTOCOL] = "Kedua server tidak saling memahami. Kirimkan laporan ini kepada administrator Anda.",
    [ADVICE_TOO_MANY_RECIPIENTS] = "Penerima pesan ini lebih banyak dari yang diterima server mereka sekaligus. Kirim kepada lebih sedikit orang sekali kirim.",
    [ADVICE_CONTENT] = "Server penerima tidak dapat menerima pesan seperti ini. Kirim sebagai teks biasa, atau kemas lampirannya dalam arsip.",
    [ADVICE_NOT_INTERNATIONAL] = "Server penerima tidak mengenal alamat dengan huruf selain a sampai z. Minta alamat tanpa huruf itu kepada penerima, atau tulis dari alamat seperti itu.",
    [ADVICE_REFUSED] = "Server penerima menolak pesan ini. Alasannya tercantum di bawah; sering kali soal spam atau soal siapa yang boleh menulis ke sana. Hubungi penerima dengan cara lain, atau kirimkan laporan ini kepada administrator Anda.",
    [ADVICE_NOT_ALLOWED] = "Anda tidak boleh menulis ke alamat ini: hanya orang tertentu yang boleh. Mintalah izin kepada pemiliknya.",
    [ADVICE_ENCRYPTION] = "Pesan ini hanya boleh dikirim terenkripsi, tetapi sambungan yang aman ke server penerima tidak tersedia. Pesan tidak dikirim tanpa enkripsi.",
    [ADVICE_SENDER_NOT_PROVEN] = "Server penerima tidak dapat memastikan bahwa pesan ini benar dari domain Anda. Administrator Anda dapat memperbaikinya: kirimkan laporan ini kepada mereka.",
    [ADVICE_ADMINISTRATOR] = "Hanya administrator yang dapat memperbaikinya: kirimkan laporan ini kepada mereka.",
};

static const struct dsn_words words_en = {
    .language = "en",
    .subject = {"Not delivered", "Delayed", "Delivered", "Handed over", "Delivered to the members"},
    .greeting = "This is the mail server %.*s.",
    .heading = {
        "Your message was NOT delivered to:",
        "Your message has not reached the following recipients yet. We go on trying, and you need not do anything:",
        "Your message was delivered to:",
        "Your message was handed to another server, which does not report on what becomes of it:",
        "Your message was passed on to all members of:",
    },
    .label_subject = "Subject", .label_date = "Received",
    .remote_said = "The server %.*s said:", .we_said = "We say:",
    .retry_until = "We try until %s. You will be told if it does not succeed.",
    .not_listed = "... and %zu more recipients.",
    .whole_attached = "Your message is attached.",
    .header_attached = "The header of your message is attached.",
    .trace_id = "If you ask your administrators about this message, give them this number: %.*s",
};

static const struct dsn_words words_id = {
    .language = "id",
    .subject = {"Tidak terkirim", "Tertunda", "Terkirim", "Diteruskan", "Terkirim kepada anggota"},
    .greeting = "Ini server surel %.*s.",
    .heading = {
        "Pesan Anda TIDAK terkirim kepada:",
        "Pesan Anda belum sampai kepada penerima berikut. Kami terus mencoba, dan Anda tidak perlu berbuat apa-apa:",
        "Pesan Anda sudah terkirim kepada:",
        "Pesan Anda sudah diserahkan kepada server lain, yang tidak melaporkan kelanjutannya:",
        "Pesan Anda sudah diteruskan kepada semua anggota:",
    },
    .label_subject = "Perihal", .label_date = "Diterima",
    .remote_said = "Jawaban server %.*s:", .we_said = "Penjelasan kami:",
    .retry_until = "Kami mencoba sampai %s. Anda akan diberi tahu jika tidak berhasil.",
    .not_listed = "... dan %zu penerima lain.",
    .whole_attached = "Pesan Anda terlampir.",
    .header_attached = "Kepala (header) pesan Anda terlampir.",
    .trace_id = "Jika bertanya kepada administrator tentang pesan ini, sebutkan nomor: %.*s",
};
/* clang-format on */

static bool is_indonesian(const char *language)
{
    return language != NULL && str_istarts(str_c(language), STR("id"));
}

const struct dsn_words *dsn_words(const char *language)
{
    return is_indonesian(language) ? &words_id : &words_en;
}

static enum advice find_row(uint32_t subject, uint32_t detail)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if ((uint32_t)rows[i].subject == subject && (uint32_t)rows[i].detail == detail)
            return rows[i].advice;
    return detail == 0 ? ADVICE_OTHER : find_row(subject, 0);
}

const char *dsn_advice(const char *language, enum dsn_action action, struct str status)
{
    struct str class, subject_text, detail_text;
    enum advice advice = ADVICE_OTHER;
    uint32_t subject, detail;

    if (action != DSN_FAILED) /* nothing to be done about it */
        return "";
    if (str_cut(status, '.', &class, &subject_text) &&
        str_cut(subject_text, '.', &subject_text, &detail_text) &&
        str_to_u32(subject_text, &subject) && str_to_u32(detail_text, &detail))
        advice = find_row(subject, detail);
    return is_indonesian(language) ? indonesian[advice] : english[advice];
}
