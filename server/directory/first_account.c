/* first_account.c - the account that `make run` shows at its first start. */
#include "server/directory/first_account.h"

#include "server/base/encode.h"
#include "server/directory/directory.h"
#include "server/run/config.h"

#define PASSWORD_SIZE 16

/* mail.example.org serves example.org; a host without a domain serves a name reserved for tests (RFC 2606). */
static struct str domain_of_host(void)
{
    struct str host, domain;

    str_cut(str_c(config.hostname), '.', &host, &domain);
    return str_index(domain, '.') >= 0 ? domain : STR("merpati.test");
}

static int is_new(struct arena *a, bool *out, struct error *err)
{
    struct str *domains;
    size_t count;

    if (domain_list(a, &domains, &count, err) < 0)
        return -1;
    *out = count == 0;
    return 0;
}

int first_account_make(struct arena *a, struct str *address, struct str *password,
                       struct error *err)
{
    struct account_new account = {
        .kind = ACCOUNT_PERSON, .name = STR("Administrator"), .is_administrator = true};
    char text[PASSWORD_SIZE + 1];
    int64_t account_id;
    bool is_first;

    *address = *password = STR("");
    if (is_new(a, &is_first, err) < 0)
        return -1;
    if (!is_first)
        return 0;
    random_text(text, PASSWORD_SIZE);
    account.address = arena_printf(a, "admin@%.*s", STR_ARG(domain_of_host()));
    account.password = arena_str(a, str_of(text, PASSWORD_SIZE));
    if (domain_add(domain_of_host(), err) < 0 || account_add(&account, &account_id, err) < 0)
        return -1;
    *address = account.address;
    *password = account.password;
    return 0;
}
