/* spam_rules.c - the rules one after the other, and those on what the server found out. */
#include "mail/spam/spam_rules.h"

static void find_in_authentication(struct arena *a, const struct spam_circumstances *f,
                                   struct spam_findings *out)
{
    if (f->spf == SPAM_FAIL)
        spam_find(a, out, SPAM_FINDING_SPF_FAIL, STR(""));
    if (f->spf == SPAM_SOFTFAIL)
        spam_find(a, out, SPAM_FINDING_SPF_SOFTFAIL, STR(""));
    if (f->dkim == SPAM_FAIL)
        spam_find(a, out, SPAM_FINDING_DKIM_FAIL, STR(""));
    if (f->dmarc == SPAM_FAIL)
        spam_find(a, out, SPAM_FINDING_DMARC_FAIL, STR(""));
    if (f->dmarc == SPAM_PASS)
        spam_find(a, out, SPAM_FINDING_DMARC_PASS, STR(""));
    /* Anybody can write a friend's address into From. */
    if (f->is_correspondent && f->dmarc == SPAM_PASS)
        spam_find(a, out, SPAM_FINDING_KNOWN_CORRESPONDENT, STR(""));
}

static void find_in_lists(struct arena *a, const struct spam_circumstances *f,
                          struct spam_findings *out)
{
    if (f->address_list_count > 0)
        spam_find(a, out, SPAM_FINDING_ADDRESS_LISTED, f->address_lists[0]);
    if (f->host_list_count > 0)
        spam_find(a, out, SPAM_FINDING_LINK_LISTED, f->host_lists[0]);
}

void spam_find_by_rules(struct arena *a, const struct mime_part *root, struct str message,
                        const struct spam_circumstances *facts, struct spam_findings *out)
{
    find_in_authentication(a, facts, out);
    find_in_lists(a, facts, out);
    spam_find_in_header(a, mime_part_header(root, message), facts, out);
    spam_find_in_parts(a, root, message, out);
}
