import pytest

from reports.report import typeset


@pytest.fixture
def typeset_body(tmp_path):
    """The PDF of a report whose document has a body, on metrics made at one time and of some more values."""

    def make(body, *, started="2026-03-02T14:05:00+00:00", **metrics):
        document = tmp_path / "report.typ"
        document.write_text(f'#import "page.typ": *\n#show: report.with(title: "Title", subtitle: [Subtitle])\n{body}')
        return typeset(document, {"timing": {"started": started}, **metrics}, tmp_path)

    return make
