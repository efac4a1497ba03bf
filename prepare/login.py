"""Log in to cityscapes-dataset.com on a server, for `wget` to download with the session.

    python -m prepare.login cookies.txt
    wget -c --load-cookies cookies.txt --content-disposition \\
        "https://www.cityscapes-dataset.com/file-handling/?packageID=1"

Asks for user and password. The password goes to the site and nowhere else: it is on no command
line and in no file. The file gets the cookies of the session, and only its owner can read it;
delete it after the download. packageID: 1 gtFine, 2 gtCoarse, 3 leftImg8bit, 4 its train_extra.
"""

import getpass
import urllib.parse
import urllib.request
from http.cookiejar import MozillaCookieJar
from pathlib import Path

from runtime.console import command_line, errors_shown

PAGE = "https://www.cityscapes-dataset.com/login/"


def log_in(user: str, password: str, page: str = PAGE) -> MozillaCookieJar:
    """The cookies of a new session. Raises PermissionError if the site refuses the login."""
    cookies = MozillaCookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    browser.addheaders = [("User-Agent", "Wget")]  # which continues with the session
    form = {"username": user, "password": password, "submit": "Login"}
    with browser.open(page, urllib.parse.urlencode(form).encode()) as answer:
        if "/login" in answer.geturl():  # after a login, the site redirects elsewhere
            raise PermissionError("login failed: wrong user or password")
    return cookies


def save_cookies(cookies: MozillaCookieJar, path: Path) -> None:
    """Write the file for `wget --load-cookies`, which only its owner can read."""
    for cookie in cookies:
        cookie.expires = cookie.expires or 0  # wget reads 0 as "ends with the session"
    path.touch(mode=0o600)
    path.chmod(0o600)  # a file that was there before
    cookies.save(str(path), ignore_discard=True, ignore_expires=True)


def main(page: str = PAGE) -> None:
    parser = command_line(__doc__)
    parser.add_argument("cookies", type=Path, help="file to write, such as cookies.txt")
    args = parser.parse_args()
    with errors_shown():
        save_cookies(log_in(input("user: "), getpass.getpass("password: "), page), args.cookies)


if __name__ == "__main__":
    main()
