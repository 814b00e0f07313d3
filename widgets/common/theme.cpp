// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/theme.h"

#include <QApplication>
#include <QEvent>
#include <QFont>
#include <QStyle>
#include <QStyleFactory>

namespace rankwise::common {

namespace {

QColor c(QRgb rgb)
{
    return QColor::fromRgb(rgb);
}

Theme makeDark()
{
    return { .name = QStringLiteral("dark"),
             .window = c(0x20242b),
             .base = c(0x181b20),
             .alternate = c(0x1e2228),
             .text = c(0xe4e7eb),
             .dimText = c(0x9aa4b0),
             .button = c(0x2d333c),
             .border = c(0x3d4550),
             .accent = c(0x4c9be8),
             .accentText = c(0x0b1016),
             .grid = c(0x333a44),
             .good = c(0x3fb984),
             .warning = c(0xe8a33d),
             .bad = c(0xef6a5a),
             .series = { c(0x56b4e9), c(0xe69f00), c(0x2fbf93), c(0xf0e442), c(0xd98bb8), c(0xec7a3c), c(0x7f9cf5),
                         c(0xc8ccd2) },
             .lineWidth = 1.5 };
}

Theme makeLight()
{
    return { .name = QStringLiteral("light"),
             .window = c(0xf3f4f6),
             .base = c(0xffffff),
             .alternate = c(0xf5f7f9),
             .text = c(0x1b1f24),
             .dimText = c(0x5b6672),
             .button = c(0xe7eaee),
             .border = c(0xbcc4cd),
             .accent = c(0x1f6fc4),
             .accentText = c(0xffffff),
             .grid = c(0xdde2e7),
             .good = c(0x14794f),
             .warning = c(0xa86200),
             .bad = c(0xc0392b),
             .series = { c(0x0072b2), c(0xd55e00), c(0x00805c), c(0xa3598a), c(0x8a6d00), c(0x3b8fc4), c(0x5b4fc4),
                         c(0x4a4f55) },
             .lineWidth = 1.5 };
}

Theme makeContrast()
{
    return { .name = QStringLiteral("contrast"),
             .window = c(0x000000),
             .base = c(0x000000),
             .alternate = c(0x101010),
             .text = c(0xffffff),
             .dimText = c(0xe0e0e0),
             .button = c(0x000000),
             .border = c(0xffffff),
             .accent = c(0xffff00),
             .accentText = c(0x000000),
             .grid = c(0x606060),
             .good = c(0x00ff90),
             .warning = c(0xffc000),
             .bad = c(0xff7070),
             .series = { c(0x00d0ff), c(0xffb000), c(0x00ff90), c(0xffff40), c(0xff90d0), c(0xff8040), c(0xa0b0ff),
                         c(0xffffff) },
             .lineWidth = 2.5 };
}

} // namespace

QPalette Theme::palette() const
{
    QPalette p(text, button, button.lighter(130), button.darker(140), border, text, text, base, window);
    p.setColor(QPalette::AlternateBase, alternate);
    p.setColor(QPalette::Highlight, accent);
    p.setColor(QPalette::HighlightedText, accentText);
    p.setColor(QPalette::Link, accent);
    p.setColor(QPalette::LinkVisited, accent);
    p.setColor(QPalette::ToolTipBase, base);
    p.setColor(QPalette::ToolTipText, text);
    p.setColor(QPalette::PlaceholderText, dimText);
    for (const auto role : { QPalette::Text, QPalette::WindowText, QPalette::ButtonText }) {
        p.setColor(QPalette::Disabled, role, name == QLatin1String("contrast") ? c(0xa0a0a0) : dimText);
    }
    p.setColor(QPalette::Disabled, QPalette::Highlight, border);
    return p;
}

QString Theme::styleSheet() const
{
    const QString width = name == QLatin1String("contrast") ? QStringLiteral("2px") : QStringLiteral("1px");
    QString sheet = QStringLiteral(
        "QToolTip { color: @text; background: @base; border: 1px solid @border; }"
        "QDockWidget::title { background: @button; padding: 4px 8px; }"
        "QHeaderView::section { background: @button; color: @text; border: 0; border-right: 1px solid @border;"
        " padding: 3px 6px; }"
        "QTabWidget::pane { border: 0; border-top: @width solid @border; }"
        "QGroupBox { border: @width solid @border; border-radius: 4px; margin-top: 1.2em; padding-top: 4px; }"
        "QGroupBox::title { subcontrol-origin: margin; left: 8px; padding: 0 4px; }"
        "QStatusBar::item { border: 0; }"
        "QLineEdit { border: @width solid @border; border-radius: 3px; padding: 2px 4px; background: @base; }"
        "QLineEdit:focus { border-color: @accent; }"
        "QCheckBox::indicator { width: 0.9em; height: 0.9em; border: @width solid @dim; border-radius: 2px;"
        " background: @base; padding: 2px; background-clip: content; }"
        "QCheckBox::indicator:checked { background: @accent; border-color: @accent; }"
        "QCheckBox::indicator:focus, QCheckBox:focus { border-color: @accent; }"
        "QLabel[role=\"dim\"] { color: @dim; }"
        "QLabel[role=\"heading\"] { font-weight: bold; }"
        "QLabel[role=\"title\"] { font-size: 16pt; }"
        "QLabel[role=\"bad\"] { color: @bad; font-weight: bold; }"
        "QLabel[role=\"warning\"] { color: @warning; font-weight: bold; }"
        "QLabel[role=\"good\"] { color: @good; font-weight: bold; }"
        "QFrame[role=\"card\"] { background: @base; border: @width solid @border; border-radius: 6px; }"
        "QFrame[role=\"alarm\"] { background: @base; border: 2px solid @warning; border-radius: 6px; }");
    sheet.replace(QStringLiteral("@accent"), accent.name());
    sheet.replace(QStringLiteral("@text"), text.name());
    sheet.replace(QStringLiteral("@base"), base.name());
    sheet.replace(QStringLiteral("@border"), border.name());
    sheet.replace(QStringLiteral("@button"), button.name());
    sheet.replace(QStringLiteral("@width"), width);
    sheet.replace(QStringLiteral("@dim"), dimText.name());
    sheet.replace(QStringLiteral("@bad"), bad.name());
    sheet.replace(QStringLiteral("@warning"), warning.name());
    sheet.replace(QStringLiteral("@good"), good.name());
    if (name == QLatin1String("contrast")) {
        sheet += QStringLiteral("QPushButton, QToolButton, QLineEdit, QComboBox, QSpinBox, QDoubleSpinBox {"
                                " border: 2px solid #ffffff; padding: 2px 6px; background: #000000; color: #ffffff; }"
                                "QPushButton:focus, QToolButton:focus, QLineEdit:focus { border-color: #ffff00; }"
                                "QPushButton:disabled, QToolButton:disabled { color: #a0a0a0; border-color: #a0a0a0; }"
                                "QSlider::groove:horizontal { height: 4px; background: #a0a0a0; }"
                                "QSlider::sub-page:horizontal { background: #ffff00; }"
                                "QSlider::handle:horizontal { width: 12px; margin: -6px 0; background: #ffffff; }"
                                "QSlider::handle:horizontal:focus { background: #ffff00; }");
    }
    return sheet;
}

const Theme& darkTheme()
{
    static const Theme kTheme = makeDark();
    return kTheme;
}

const Theme& lightTheme()
{
    static const Theme kTheme = makeLight();
    return kTheme;
}

const Theme& contrastTheme()
{
    static const Theme kTheme = makeContrast();
    return kTheme;
}

QStringList themeNames()
{
    return { QStringLiteral("system"), QStringLiteral("dark"), QStringLiteral("light"), QStringLiteral("contrast") };
}

ThemeSwitch& ThemeSwitch::instance()
{
    static ThemeSwitch theSwitch;
    return theSwitch;
}

ThemeSwitch::ThemeSwitch() : m_theme(&darkTheme())
{
    m_basePointSize = QApplication::font().pointSizeF() > 0 ? QApplication::font().pointSizeF() : 10.0;
    m_systemPalette = QApplication::palette();
    qApp->installEventFilter(this);
}

bool ThemeSwitch::eventFilter(QObject* object, QEvent* event)
{
    // The desktop switched between light and dark: Qt tells by a new palette that is not one of ours.
    if (object == qApp && event->type() == QEvent::ThemeChange && m_choice == QLatin1String("system")) {
        QApplication::setPalette(QPalette());
        m_systemPalette = QApplication::palette();
        apply(m_choice, m_zoom);
    }
    return QObject::eventFilter(object, event);
}

void ThemeSwitch::apply(const QString& choice, double zoom)
{
    m_choice = choice;
    m_zoom = zoom;
    if (choice == QLatin1String("light")) {
        m_theme = &lightTheme();
    } else if (choice == QLatin1String("contrast")) {
        m_theme = &contrastTheme();
    } else if (choice == QLatin1String("dark")) {
        m_theme = &darkTheme();
    } else {
        m_theme = m_systemPalette.color(QPalette::Window).lightness() < 128 ? &darkTheme() : &lightTheme();
    }
    if (QApplication::style()->name() != QLatin1String("fusion")) {
        QApplication::setStyle(QStyleFactory::create(QStringLiteral("fusion")));
    }
    QFont font = QApplication::font();
    font.setPointSizeF(m_basePointSize * zoom);
    // Each of these three visits every widget, so that only what differs is set.
    if (QApplication::font() != font) {
        QApplication::setFont(font);
    }
    const QPalette colors = m_theme->palette();
    if (QApplication::palette() != colors) {
        QApplication::setPalette(colors);
    }
    const QString sheet = m_theme->styleSheet();
    if (qApp->styleSheet() != sheet) {
        qApp->setStyleSheet(sheet);
    }
    Q_EMIT changed();
}

} // namespace rankwise::common
